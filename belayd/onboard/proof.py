"""Prints what only a board can that has the contents of files; belayd/records/proving.py asks.

_BK(token, paths) prints \\x1e and the repr of a list: for each path SHA-256 of the token
followed by the file's content, None if it cannot be read.
"""


def _BK(token, paths):
    import hashlib

    new = getattr(hashlib, "sha256", None) or (lambda: hashlib.new("sha256"))
    buffer = bytearray(512)
    view = memoryview(buffer)
    found = []
    for path in paths:
        digest = new()
        digest.update(token)
        try:
            with open(path, "rb") as file:
                while True:
                    count = file.readinto(buffer)
                    if not count:
                        break
                    digest.update(view[:count])
            found.append(digest.digest())
        except OSError:
            found.append(None)
    print("\x1e%r" % (found,))
