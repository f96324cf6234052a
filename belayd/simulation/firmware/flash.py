"""A block device on an image file of the host, for a real LittleFS.

MicroPython source. The image has its full size from the start.
"""


class Flash:
    """Blocks of 4 KiB, as the flash of most boards erases them."""

    def __init__(self, path):
        self._file = open(path, "r+b")
        self._blocks = self._file.seek(0, 2) // 4096

    def readblocks(self, block, buffer, offset=0):
        self._file.seek(block * 4096 + offset)
        self._file.readinto(buffer)

    def writeblocks(self, block, buffer, offset=0):
        self._file.seek(block * 4096 + offset)
        self._file.write(buffer)

    def ioctl(self, operation, argument):
        if operation == 3:
            self._file.flush()
        if operation == 4:
            return self._blocks
        if operation == 5:
            return 4096
        return 0
