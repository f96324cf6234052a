"""Removes every file and folder of a board but `keep`; belayd/between.py reads what it prints.

_BW(keep) prints \\x1e and the repr of (how many it removed, what stays of it:
pairs of path and errno). It goes through folders in small batches, since a
board's memory holds no long list and a filesystem need not bear a change while
it is listed. Other filesystems that cannot be written are left alone; a folder
where one is mounted stays. What comes back at once is left, and counts as removed.
"""


def _BW(keep):
    import os

    left = {}
    removed = 0
    folders = [""]
    gone = ()

    def is_folder(path):
        try:
            return os.stat(path)[0] & 0xF000 == 0x4000
        except (OSError, AttributeError):
            return False

    def is_elsewhere(top):
        try:
            return top != "/" + os.getcwd().split("/")[1] and os.statvfs(top) != os.statvfs("/")
        except (OSError, AttributeError):
            return False

    while folders and len(left) < 32:
        folder = folders[-1]
        batch = []
        try:
            if hasattr(os, "ilistdir"):
                names = (entry[0] for entry in os.ilistdir(folder or "/"))
            else:
                names = os.listdir(folder) if folder else os.listdir()
            for name in names:
                path = folder + "/" + name
                if path not in left and path not in keep:
                    batch.append(path)
                    if len(batch) == 16:
                        break
        except OSError as error:
            left[folder or "/"] = error.args[0]
            folders.pop()
            continue
        for path in batch:
            if path in gone:
                # A thread or an interrupt of somebody's puts it back.
                left[path] = 0
                continue
            try:
                # First, since a link must not be followed.
                os.remove(path if hasattr(os, "stat") else path[1:])
                removed += 1
            except (OSError, AttributeError) as error:
                # A filesystem that can only be read (VfsRom) has no remove.
                number = 30 if isinstance(error, AttributeError) else error.args[0]
                top = path[: path.find("/", 1)] if folder else path
                if is_folder(path):
                    folders.append(path)
                elif number == 30 and is_elsewhere(top):
                    left[top] = 0
                    del folders[1:]
                    break
                else:
                    left[path] = number
        gone = batch
        if not batch:
            folders.pop()
            if folder:
                try:
                    os.rmdir(folder)
                    removed += 1
                except (OSError, AttributeError) as error:
                    # At the root it may be where a filesystem is mounted; what keeps it is told by itself.
                    left[folder] = error.args[0] if "/" in folder[1:] else 0
    print("\x1e%r" % ((removed, [pair for pair in left.items() if pair[1]]),))
