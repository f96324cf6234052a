"""Writes files from binary blocks on stdin; belayd/deployment/stream.py sends them, blocks.py makes them.

_BR(token, most, size, bits, lean) reads blocks of at most `most` bytes that hold at
most `size`, deflated with a window of `bits`, and answers once when it begins and
after each: A, or E and the repr of (operations done, problem). A problem is an errno,
the hash that a file really has, or -1 for a block that came damaged; nothing is done
after one, but blocks are read on until the empty one. With `lean` it collects garbage
before each answer, since nobody holds the input back while it does.

A block is four hex digits of length, z if deflated, and that many bytes, in segments:
the length in two bytes of seven bits, what stands there for 02, 03 and 04, and so
much. Together these are the first four bytes of the SHA-256 of the rest, and the rest:
operations, each a letter, its length in two bytes, and so much:

    p piece    of a long path, put before the next one
    m path     make a folder, unless it is there
    o path     begin a file
    w data     append to it
    c sha256   end the file: read it back and compare
    n path     give the file this name, whatever has it now (by onboard/renaming.py)
    d path     delete a file, if it is there
    r path     delete an empty folder, if it is there
    q path     ask whether the filesystem takes such a name
"""


def _BR(token, most, size, bits, lean):
    import gc, hashlib, os
    from sys import stdin, stdout

    try:
        from deflate import DeflateIO
        from io import BytesIO
    except ImportError:
        DeflateIO = None
    new = getattr(hashlib, "sha256", None) or (lambda: hashlib.new("sha256"))
    say = stdout.write
    box = memoryview(bytearray(most))
    flat = memoryview(bytearray(size if bits else 0))
    file = None
    place = before = b""
    done = 0

    def give_up():
        nonlocal file, place
        # A file that could not be written may fail again at close.
        try:
            if file:
                file.close()
        except OSError:
            pass
        try:
            if place:
                os.remove(place)
        except (OSError, AttributeError):
            pass
        file = None
        place = b""

    def read(name, sink):
        with open(name, "rb") as source:
            while True:
                n = source.readinto(box)
                if not n:
                    break
                sink(box[:n])

    def unpack(n, kind):
        data = []
        at = 0
        while at < n:
            end = at + 5 + ((box[at] & 127) << 7) + (box[at + 1] & 127)
            part = bytes(box[at + 5 : end])
            for k in 2, 3, 4:
                part = part.replace(bytes(box[at + k : at + k + 1]), b"\x02\x03\x04"[k - 2 : k - 1])
            data.append(part)
            at = end
        data = b"".join(data)
        part = None
        digest = new()
        digest.update(memoryview(data)[4:])
        if digest.digest()[:4] != data[:4]:
            return
        if kind != 122:
            return memoryview(data)[4:]
        if not DeflateIO:
            from zlib import decompress

            return memoryview(decompress(data[4:], -bits))
        data = BytesIO(data)
        data.seek(4)
        data = DeflateIO(data, 1, bits)
        n = 0
        while True:
            k = data.readinto(flat[n:])
            if not k:
                return flat[:n]
            n += k

    def take(data):
        nonlocal file, place, before, done
        at = 0
        while at < len(data):
            kind = data[at]
            n = at + 3 + (data[at + 1] << 8) + data[at + 2]
            given = data[at + 3 : n]
            at = n
            if kind == 119:
                file.write(given)
            elif kind == 112:
                before += bytes(given)
            elif kind == 99:
                file.close()
                file = None
                digest = new()
                read(place, digest.update)
                digest = digest.digest()
                if digest != bytes(given):
                    return digest
            else:
                path = (before + bytes(given)).decode()
                before = b""
                if kind == 111:
                    place = path
                    file = open(path, "wb")
                elif kind == 110:
                    _BN(place, path, read)
                    place = b""
                else:
                    try:
                        {109: os.mkdir, 100: os.remove, 114: os.rmdir, 113: os.stat}[kind](path)
                    except OSError as error:
                        if error.args[0] != (17 if kind == 109 else 2):
                            raise
            done += 1

    problem = None
    try:
        gc.collect()
        say(token + "A" + token)
        while True:
            head = stdin.buffer.read(5)
            n = int(head[:4], 16)
            if not n:
                break
            at = 0
            while at < n:
                k = stdin.buffer.readinto(box[at:n])
                if not k:
                    raise OSError(5)
                at += k
            if problem is None:
                done = 0
                try:
                    data = unpack(n, head[4])
                    problem = -1 if data is None else take(data)
                except OSError as error:
                    problem = error.args[0]
                except MemoryError:
                    problem = 12
                except AttributeError:
                    # A filesystem that can only be read (VfsRom) lacks mkdir, remove and rename.
                    problem = 30
                data = None
                if problem is not None:
                    give_up()
            if lean:
                gc.collect()
            say(token + ("A" if problem is None else "E%r" % ((done, problem),)) + token)
        if problem is None:
            place = b""
    finally:
        give_up()
        say(token + "Q" + token)
