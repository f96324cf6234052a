"""Changes a board's files step by step; belayd/deployment/steps.py sends them.

_BS(step, ...) takes steps until one fails, then closes and removes the temporary
file and prints \\x1e and the repr of (steps done, problem): None, an errno, or
the hash that a written file really has. Steps are tuples:

    ('m', path)              make a folder, unless it is there
    ('d', path)              delete a file, if it is there
    ('r', path)              delete an empty folder, if it is there
    ('q', path)              ask whether the filesystem takes such a name
    ('o', path, temporary)   begin a file under a temporary name, which may be its own
    ('w', content)           append: bytes, or base64 in a str
    ('z', content, bits)     append what raw deflate with that window makes of it
    ('c', sha256)            end the file: read it back, compare, rename it over the old if named otherwise
    ('x',)                   give up the file that was begun
"""


def _steps():
    import gc, hashlib, os

    try:
        from binascii import a2b_base64
    except ImportError:
        a2b_base64 = None
    try:
        from deflate import DeflateIO
        from io import BytesIO
    except ImportError:
        DeflateIO = None
    new = getattr(hashlib, "sha256", None) or (lambda: hashlib.new("sha256"))
    buffer = bytearray(512)
    view = memoryview(buffer)
    file = path = temporary = None

    def decode(content):
        return a2b_base64(content) if isinstance(content, str) else content

    def give_up():
        nonlocal file, temporary
        # A file that could not be written may fail again at close.
        if file:
            try:
                file.close()
            except OSError:
                pass
        if temporary:
            try:
                os.remove(temporary)
            except (OSError, AttributeError):
                pass
        file = temporary = None

    def inflate(content, bits):
        if DeflateIO:
            stream = DeflateIO(BytesIO(content), 1, bits)
            while True:
                n = stream.readinto(buffer)
                if not n:
                    break
                file.write(view[:n])
        else:
            import zlib

            file.write(zlib.decompress(content, -bits))

    def read(name, sink):
        with open(name, "rb") as source:
            while True:
                n = source.readinto(buffer)
                if not n:
                    break
                sink(view[:n])

    def hash_of(name):
        digest = new()
        read(name, digest.update)
        return digest.digest()

    def rename():
        # VfsPosix below a folder of its host renames nothing before 2026-08, with ENOENT or,
        # over an existing file, without a word (github.com/micropython/micropython/issues/7389).
        try:
            os.rename(temporary, path)
            os.stat(temporary)
        except OSError as error:
            if error.args[0] == 17:
                # CircuitPython does not rename over a file.
                os.remove(path)
                os.rename(temporary, path)
                return
            if error.args[0] != 2:
                raise
            try:
                os.stat(temporary)
            except OSError:
                return
        with open(path, "wb") as target:
            read(temporary, target.write)
        os.remove(temporary)

    def end(expected):
        nonlocal file, temporary
        file.close()
        file = None
        found = hash_of(temporary)
        if found != expected:
            return found
        if temporary != path:
            rename()
        temporary = None

    def receive(*steps):
        nonlocal file, path, temporary
        gc.collect()
        done = 0
        problem = None
        try:
            for step in steps:
                kind = step[0]
                if kind == "w":
                    file.write(decode(step[1]))
                elif kind == "z":
                    inflate(decode(step[1]), step[2])
                elif kind == "o":
                    give_up()
                    path = step[1]
                    temporary = step[2]
                    file = open(temporary, "wb")
                elif kind == "c":
                    problem = end(decode(step[1]))
                    if problem:
                        break
                elif kind == "m":
                    try:
                        os.mkdir(step[1])
                    except OSError as error:
                        if error.args[0] != 17:
                            raise
                elif kind in "drq":
                    try:
                        (os.remove if kind == "d" else os.rmdir if kind == "r" else os.stat)(step[1])
                    except OSError as error:
                        if error.args[0] != 2:
                            raise
                else:
                    give_up()
                done += 1
        except OSError as error:
            problem = error.args[0]
        except MemoryError:
            problem = 12
        except AttributeError:
            # A filesystem that can only be read (VfsRom) lacks mkdir, remove and rename.
            problem = 30
        finally:
            if done < len(steps):
                give_up()
        print("\x1e%r" % ((done, problem),))

    return receive


_BS = _steps()
del _steps
