"""Tells what lies at a path, one exec for everything; belayd/files/listing.py reads it.

_BF(top, deep, hashed) walks with a list, since stacks are small. Each record is one
line, \\x1e, a letter and the repr of a tuple:

    T  errno or None, type bits of `top`, whether another filesystem is mounted there
    D  a folder, relative to top with a leading '/', "" for top; its entries follow
    F  a file of it, or top itself as "": name, size, SHA-256 in base64 without '='
       (bytes where there is no binascii; None where not asked, or there is no hashlib)
    S  a folder of it: name; comes as D later where `deep`
    M  a folder of it where another filesystem is mounted: not walked into
    E  what cannot be read: name ("" for the folder itself), errno
    Z  the end: how many records came before it

_BU() prints a list of filesystems: (path, block size, blocks, free blocks, whether
code cannot write there).
"""


def _BF(top, deep, hashed):
    import os

    try:
        from binascii import b2a_base64
    except ImportError:
        b2a_base64 = None
    new = None
    if hashed:
        try:
            import hashlib

            new = getattr(hashlib, "sha256", None) or (lambda: hashlib.new("sha256"))
            new()
        except (ImportError, AttributeError, ValueError):
            new = None
    buffer = bytearray(512)
    view = memoryview(buffer)
    count = 0

    def say(letter, *fields):
        nonlocal count
        count += 1
        print("\x1e%s%r" % (letter, fields))

    def tell(name, path, size):
        digest = None
        if new:
            size = 0
            digest = new()
            with open(path, "rb") as file:
                while True:
                    n = file.readinto(buffer)
                    if not n:
                        break
                    size += n
                    digest.update(view[:n])
            digest = digest.digest()
            if b2a_base64:
                digest = b2a_base64(digest)[:43].decode()
        say("F", name, size, digest)

    mounts = ()
    try:
        import vfs

        mounts = [m[1] for m in vfs.mount()]
    except (ImportError, AttributeError, TypeError):
        pass
    folders = []
    try:
        found = os.stat(top)
        kind = found[0] & 0xF000
        say("T", None, kind, top in mounts)
        if kind == 0x4000:
            folders.append("")
        elif kind == 0x8000:
            tell("", top, found[6])
        else:
            say("E", "", 22)
    except OSError as error:
        if count:
            say("E", "", error.args[0])
        else:
            say("T", error.args[0], 0, False)
    base = "" if top == "/" else top
    while folders:
        folder = folders.pop()
        say("D", folder)
        place = base + folder
        try:
            if hasattr(os, "ilistdir"):
                entries = os.ilistdir(place or "/")
            else:
                entries = ((name, 0) for name in os.listdir(place or "/"))
            for entry in entries:
                name = entry[0]
                path = place + "/" + name
                try:
                    kind = entry[1] & 0xF000 or os.stat(path)[0] & 0xF000
                    if kind == 0x4000:
                        if path in mounts:
                            say("M", name)
                        else:
                            say("S", name)
                            if deep:
                                folders.append(folder + "/" + name)
                    elif kind == 0x8000:
                        # VfsPosix and listdir give no size.
                        tell(name, path, entry[3] if len(entry) > 3 else os.stat(path)[6])
                    else:
                        raise OSError(22)
                except OSError as error:
                    say("E", name, error.args[0])
        except OSError as error:
            say("E", "", error.args[0])
    say("Z", count)


def _BU():
    import os

    found = []

    def add(path, fixed):
        try:
            usage = os.statvfs(path)
        except OSError:
            return
        if usage[2] and (path == "/" or not root or usage != root):
            found.append((path, usage[1] or usage[0], usage[2], usage[4], fixed))

    root = None
    try:
        import vfs

        for mounted, path in vfs.mount():
            add(path, not hasattr(mounted, "mkdir"))
    except (ImportError, AttributeError, TypeError, ValueError):
        try:
            import storage

            def fixed(path):
                try:
                    return storage.getmount(path).readonly
                except (AttributeError, OSError):
                    return False

        except ImportError:

            def fixed(path):
                return False

        add("/", fixed("/"))
        try:
            root = os.statvfs("/")
        except OSError:
            pass
        for name in os.listdir("/"):
            add("/" + name, fixed("/" + name))
    print("\x1e%r" % (found,))
