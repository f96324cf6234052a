"""Gives a file another's name and place, on any filesystem; for onboard/receiver.py, where files are replaced in place.

_BN(old, new, read) takes what reads a file into a function, for where there is no renaming.
"""


def _BN(old, new, read):
    import os

    # VfsPosix below a folder of its host renames nothing before 2026-08, with ENOENT or,
    # over an existing file, without a word (github.com/micropython/micropython/issues/7389).
    try:
        os.rename(old, new)
        os.stat(old)
    except OSError as error:
        if error.args[0] == 17:
            # CircuitPython does not rename over a file.
            os.remove(new)
            os.rename(old, new)
            return
        if error.args[0] != 2:
            raise
        try:
            os.stat(old)
        except OSError:
            return
    with open(new, "wb") as target:
        read(old, target.write)
    os.remove(old)
