"""Completes or undoes a deployment by its journal; belayd/deployment/journal.py writes that and reads the answers.

_BJ(roots) looks into root + '/.belayd' of each; of None, wherever a filesystem may be
mounted. It prints \\x1e and the repr of a list of (root, what became of it, two details):

    'C'  completed: the tree is the new one; 'cleared' stays until _BJ(roots, 1) sweeps up
    'U'  undone: nothing of the tree was touched, and all that was staged is gone
    'F'  undone, since it would not fit: bytes needed, bytes free
    'B'  broken: the journal was damaged after it had begun; swept up
    'E'  failed and to be tried again: errno, path

and returns the roots where there is something to sweep up.
The journal holds records: a letter, four hex digits of length, a payload.

    d path         delete a file          r path   delete an empty folder
    m path         make a folder          n place NUL path   rename what is staged there
    c              all that stood in the way is gone
    z hash         the end: the first 16 bytes of SHA-256 of all before

It may stop after every write and be begun again: 'begun' says that the tree is
touched, 'cleared' that what is in the way must not be deleted again: to FAT it
may have the name of a new file by now. A board's boot.py can have all that is
journalled completed with _BJ(None, 2), which neither undoes nor prints.
"""


def _BJ(roots, sweeping=0):
    import hashlib, os

    new = getattr(hashlib, "sha256", None) or (lambda: hashlib.new("sha256"))
    buffer = bytearray(256)
    view = memoryview(buffer)
    base = name = path = ""
    replay = 0

    def kind(path):
        try:
            return os.stat(path)[0] & 0xF000
        except OSError as error:
            # ENOENT, and ENOTDIR below a file.
            if error.args[0] in (2, 20):
                return 0
            raise

    def touch(mark):
        open(base + mark, "wb").close()

    def sweep(folder, spare=""):
        for entry in os.listdir(folder):
            if entry != spare:
                inner = folder + "/" + entry
                if kind(inner) == 0x4000:
                    sweep(inner)
                    os.rmdir(inner)
                else:
                    os.remove(inner)

    def whole():
        if not kind(name):
            return False
        digest = new()
        with open(name, "rb") as file:
            while True:
                head = file.read(5)
                try:
                    left = int(head[1:].decode(), 16)
                except ValueError:
                    return False
                if head[:1] == b"z":
                    return file.read(17) == digest.digest()[:16]
                digest.update(head)
                while left:
                    n = file.readinto(view[: min(left, 256)])
                    if not n:
                        return False
                    digest.update(view[:n])
                    left -= n

    def records(at):
        # Closed between: FAT may not bear a change while a file is open, or more than two open.
        size = 512
        while True:
            with open(name, "rb") as file:
                file.seek(at)
                some = file.read(size)
            start = 0
            while start + 5 <= len(some):
                end = start + 5 + int(some[start + 1 : start + 5], 16)
                if end > len(some):
                    break
                letter = some[start : start + 1]
                payload = some[start + 5 : end]
                at += end - start
                start = end
                if letter == b"z":
                    return
                if letter == b"n":
                    index, payload = payload.split(b"\0", 1)
                    yield letter, base + index.decode(), payload.decode(), at
                else:
                    yield letter, "", payload.decode(), at
            if not start:
                size = end

    def lacking():
        # A folder takes two blocks of LittleFS, a name its entry; two are spare to copy a folder's pair.
        size = os.statvfs(base)
        entries = blocks = 0
        for letter, _, path, _ in records(0):
            if letter == b"m":
                blocks += 2
            elif letter == b"n":
                entries += 64 + 2 * len(path[path.rfind("/") :].encode())
            elif letter == b"d" and not entries and kind(path):
                blocks -= os.stat(path)[6] // size[1]
        if not (entries or blocks > 0):
            return
        blocks += -(-entries // size[1]) + 2
        if size[4] < blocks:
            return blocks * size[1], size[4] * size[1]

    def same(one, other):
        if os.stat(one)[6] != os.stat(other)[6]:
            return False
        with open(one, "rb") as file, open(other, "rb") as second:
            while True:
                n = file.readinto(view[:128])
                if not n:
                    return True
                if second.readinto(view[128 : 128 + n]) != n or view[:n] != view[128 : 128 + n]:
                    return False

    def copy(source, target):
        with open(source, "rb") as file, open(target, "wb") as second:
            while True:
                n = file.readinto(buffer)
                if not n:
                    return
                second.write(view[:n])

    def rename(staged, path):
        try:
            os.rename(staged, path)
        except OSError as error:
            if error.args[0] == 17 and kind(path) != 0x4000:
                # CircuitPython does not rename over a file.
                os.remove(path)
                rename(staged, path)
            # LittleFS ends a rename that was cut with the next change, and that is this one.
            elif error.args[0] != 2 or not (kind(staged) or replay and kind(path)):
                raise
        # VfsPosix below a folder of its host renames nothing before 2026-08, with ENOENT or,
        # over an existing file, without a word (github.com/micropython/micropython/issues/7389).
        if kind(staged):
            copy(staged, path)
            os.remove(staged)

    def move(staged, path):
        # FAT's rename makes the new entry before it removes the old: cut between the two, both
        # have the same clusters, and deleting either frees them. Then there is a copy first.
        if not replay:
            rename(staged, path)
            return
        twin = staged + "c"
        left = kind(staged)
        half = kind(twin)
        there = kind(path)
        if there == 0x4000:
            raise OSError(21)
        if left and there and (half or same(staged, path)):
            copy(staged, twin)
            os.remove(path)
            half = 1
        if half:
            if left:
                os.remove(staged)
            copy(twin, path)
            os.remove(twin)
        elif left:
            rename(staged, path)

    def do(letter, staged, path):
        if letter == b"n":
            move(staged, path)
        elif letter == b"m":
            if kind(path) != 0x4000:
                os.mkdir(path)
        elif letter == b"d":
            if kind(path) not in (0, 0x4000):
                os.remove(path)
        elif letter == b"r" and kind(path) == 0x4000:
            try:
                os.rmdir(path)
            except OSError as error:
                # What is not empty stays.
                if error.args[0] == 5:
                    raise

    def apply():
        nonlocal path
        skip = kind(base + "cleared")
        for letter, staged, path, at in records(0):
            if letter == b"c":
                if not skip:
                    touch("cleared")
                skip = 0
            elif not skip:
                try:
                    do(letter, staged, path)
                except OSError as error:
                    if error.args[0] != 28 or letter not in b"mn":
                        raise
                    # What is pruned in the end goes first where there is no room otherwise.
                    for letter2, staged2, path2, _ in records(at):
                        if letter2 in b"dr":
                            do(letter2, staged2, path2)
                    do(letter, staged, path)

    def settle(folder):
        nonlocal replay
        sync = getattr(os, "sync", int)
        if kind(folder) != 0x4000:
            if sweeping < 2:
                os.remove(folder)
            return
        if sweeping == 1:
            sweep(folder, "cleared")
            sweep(folder)
            os.rmdir(folder)
            return
        if whole():
            # Either: after a rename that was cut LittleFS did not find 'begun' until its next change.
            replay = kind(base + "begun") or kind(base + "cleared")
            lack = not replay and lacking()
            if not lack:
                sync()
                touch("begun")
                apply()
                sync()
                os.remove(name)
                sweep(folder, "cleared")
                sync()
                return "C"
        elif kind(base + "cleared") and not kind(name):
            sweep(folder, "cleared")
            return "C"
        else:
            lack = None
            replay = kind(base + "begun") or kind(base + "cleared")
        if sweeping:
            return
        if kind(name):
            os.remove(name)
        found = os.listdir(folder)
        sweep(folder)
        os.rmdir(folder)
        return ("F",) + lack if lack else "B" if replay else "U" if found else None

    places = roots
    if roots is None:
        places = [""]
        try:
            places += ["/" + entry for entry in os.listdir("/")]
        except OSError:
            pass
        try:
            import vfs

            places += [m[1].rstrip("/") for m in vfs.mount() if m[1].rstrip("/") not in places]
        except (ImportError, AttributeError, TypeError):
            pass
    told = []
    for place in places:
        try:
            os.stat(place + "/.belayd")
        except OSError:
            continue
        base = place + "/.belayd/"
        name = base + "journal"
        path = base[:-1]
        try:
            became = settle(path)
            if became:
                told.append((place,) + (became if isinstance(became, tuple) else (became, 0, 0)))
        except OSError as error:
            told.append((place, "E", error.args[0], path))
        except AttributeError:
            # A filesystem that can only be read (VfsRom) lacks remove.
            told.append((place, "E", 30, path))
    if sweeping < 2:
        print("\x1e%r" % (told,))
    return [answer[0] for answer in told if answer[1] == "C"]
