"""Renames, deletes and makes files and folders; belayd/files/changing.py asks for it.

Each of the functions in _BF returns what it did and raises OSError with an errno, or
with an errno and the path that it is about where that is not the first argument.
Nothing recurses: stacks are small.
"""


def _BF(name, *arguments):
    import os

    def kind(path):
        try:
            return os.stat(path)[0] & 0xF000
        except OSError as error:
            if error.args[0] != 2:
                raise
            return 0

    def above(path):
        return path[: path.rfind("/")] or "/"

    def listed(path):
        return path[path.rfind("/") + 1 :] in os.listdir(above(path))

    def refuse_mounts(path):
        try:
            import vfs

            mounts = [m[1] for m in vfs.mount()]
        except (ImportError, AttributeError, TypeError):
            return
        for mount in mounts:
            if (mount + "/").startswith(path + "/"):
                raise OSError(16, mount)

    def delete(path, deep, missing_ok):
        found = kind(path)
        if not found and missing_ok:
            return 0
        refuse_mounts(path)
        if found != 0x4000:
            os.remove(path)
            return 1
        folders = [path]
        count = 0
        if deep:
            for folder in folders:
                # Not ilistdir: what it walks through must not change meanwhile.
                for name in os.listdir(folder):
                    name = folder + "/" + name
                    if kind(name) == 0x4000:
                        folders.append(name)
                    else:
                        os.remove(name)
                        count += 1
        count += len(folders)
        while folders:
            # LittleFS answers EEXIST or ENOTEMPTY, FAT EACCES.
            if not deep and os.listdir(path):
                raise OSError(39)
            os.rmdir(folders.pop())
        return count

    def make(path, parents):
        missing = []
        while parents and path != "/" and kind(path) != 0x4000:
            missing.append(path)
            path = above(path)
        if not parents:
            if kind(path):
                raise OSError(17)
            missing.append(path)
        for path in reversed(missing):
            if kind(above(path)) != 0x4000:
                raise OSError(20 if kind(above(path)) else 2, above(path))
            if kind(path):
                raise OSError(20, path)
            os.mkdir(path)
        return len(missing)

    def touch(path, parents):
        found = kind(path)
        if found == 0x4000:
            raise OSError(21)
        if found:
            return False
        if parents:
            make(above(path), True)
        elif kind(above(path)) != 0x4000:
            raise OSError(2, above(path))
        open(path, "wb").close()
        return True

    def copy(old, new):
        buffer = bytearray(512)
        view = memoryview(buffer)
        pairs = [(old, new)]
        for old, new in pairs:
            if kind(old) == 0x4000:
                os.mkdir(new)
                pairs.extend([(old + "/" + name, new + "/" + name) for name in os.listdir(old)])
                continue
            with open(old, "rb") as source, open(new, "wb") as target:
                while True:
                    n = source.readinto(buffer)
                    if not n:
                        break
                    target.write(view[:n])

    def move(old, new, replace):
        found = kind(old)
        if not found:
            raise OSError(2)
        refuse_mounts(old)
        # To FAT a name in another case is the same file.
        same = old.lower() == new.lower() and not listed(new)
        there = 0 if same else kind(new)
        if there:
            if not replace:
                raise OSError(17, new)
            if there == 0x4000:
                raise OSError(21, new)
            if found == 0x4000:
                raise OSError(20, new)
        elif not same and kind(above(new)) != 0x4000:
            raise OSError(2, above(new))
        try:
            os.rename(old, new)
        except OSError as error:
            if error.args[0] == 17 and there:
                # CircuitPython does not rename over a file.
                os.remove(new)
                os.rename(old, new)
            elif error.args[0] != 2:
                raise
        # VfsPosix below a folder of its host renames nothing before 2026-08, with ENOENT or,
        # over an existing file, without a word (github.com/micropython/micropython/issues/7389).
        if listed(old) if same else kind(old):
            try:
                copy(old, new)
            except OSError:
                if kind(new):
                    delete(new, True, True)
                raise
            delete(old, True, True)

    try:
        done = {"delete": delete, "make": make, "touch": touch, "move": move}[name](*arguments)
        print("\x1e%r" % ((done, None, None),))
    except OSError as error:
        path = error.args[1] if len(error.args) > 1 else None
        print(
            "\x1e%r" % ((None, error.args[0], path if isinstance(path, str) and path[:1] == "/" else None),)
        )
