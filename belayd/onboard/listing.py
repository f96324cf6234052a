"""Prints what lies below a folder, one exec for everything; belayd/deployment/listing.py reads it.

_BL(top, largest) walks with a stack, since boards have little of their own. Each
record is one line, \\x1e, a letter and the repr of a tuple:

    N  this firmware has no SHA-256; nothing follows
    U  the numbers of os.statvfs for the nearest folder that exists
    R  code cannot write there: CircuitPython's USB drive has it
    S  a deployment there broke off and is not settled; its folder .belayd is not listed
    W  the folders where filesystems are mounted, where the board can tell
    T  the type bits of `top`: 0 if there is nothing, 0x4000 folder, 0x8000 file
    D  a folder, relative to top with a leading '/', "" for top; its entries follow
    F  a file of it: name, size, first 16 bytes of SHA-256 in base64 without '=='
       (bytes where there is no binascii; None if it is larger than `largest`)
    M  a folder of it where another filesystem is mounted: not walked into
    E  what cannot be read: name ("" for the folder itself), errno
    Z  the end: how many records came before it
"""


def _BL(top, largest):
    import hashlib, os

    try:
        from binascii import b2a_base64
    except ImportError:
        b2a_base64 = None
    new = getattr(hashlib, "sha256", None) or (lambda: hashlib.new("sha256"))
    try:
        new()
    except (AttributeError, ValueError):
        print("\x1eN()")
        return
    base = "" if top == "/" else top
    buffer = bytearray(512)
    view = memoryview(buffer)
    count = 0

    def say(letter, *fields):
        nonlocal count
        count += 1
        print("\x1e%s%r" % (letter, fields))

    path = top
    while True:
        try:
            say("U", *os.statvfs(path)[:10])
            break
        except OSError:
            if path == "/":
                break
            path = path[: path.rfind("/")] or "/"
    try:
        import storage

        try:
            mount = storage.getmount("/" + top.split("/")[1])
        except OSError:
            mount = storage.getmount("/")
        if mount.readonly:
            say("R")
    except (ImportError, AttributeError, OSError):
        pass
    mounts = ()
    try:
        import vfs

        mounts = [m[1] for m in vfs.mount()]
    except (ImportError, AttributeError, TypeError):
        pass
    say("W", *mounts)
    for path in ["", "/" + top.split("/")[1]] if base else [""]:
        try:
            os.stat(path + "/.belayd")
            say("S")
            break
        except OSError:
            pass
    kind = 0
    try:
        kind = os.stat(top)[0] & 0xF000
    except OSError as error:
        if error.args[0] != 2:
            raise
    say("T", kind)
    folders = [""] if kind == 0x4000 else []
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
                        elif name == ".belayd" and (place.count("/") < 2 or place in mounts):
                            pass
                        else:
                            folders.append(folder + "/" + name)
                        continue
                    if kind != 0x8000:
                        raise OSError(22)
                    # VfsPosix and listdir give no size.
                    size = entry[3] if len(entry) > 3 else os.stat(path)[6]
                    digest = None
                    if size <= largest:
                        size = 0
                        digest = new()
                        with open(path, "rb") as file:
                            while True:
                                n = file.readinto(buffer)
                                if not n:
                                    break
                                size += n
                                digest.update(view[:n])
                        digest = digest.digest()[:16]
                        if b2a_base64:
                            digest = b2a_base64(digest)[:22].decode()
                    say("F", name, size, digest)
                except OSError as error:
                    say("E", name, error.args[0])
        except OSError as error:
            say("E", "", error.args[0])
    say("Z", count)
