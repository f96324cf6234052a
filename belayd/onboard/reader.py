"""Sends one file in counted frames; belayd/files/reading.py reads them.

_BF(token, path, block, window, raw) sends, each in a frame:

    S  the file's size and how large its blocks will be, decimal: smaller than
       `block` where memory is
    D  a block: the bytes themselves, or base64 where `raw` is false
    H  the SHA-256 of all that was sent, in hexadecimal; empty where the board has none
    E  an errno; then everything is read up to a line's end, and nothing more comes
    Q  it has ended

Before each block but the first `window` it waits for one byte: so many may be on
their way, and no more. Exactly so much is sent as was told, or an E: a file that was
cut short meanwhile is error 5.
"""


def _BF(t, path, block, window, raw):
    import os
    from sys import stdin, stdout

    i = stdin.buffer.read
    w = stdout.write
    digest = None
    try:
        import hashlib

        digest = hashlib.sha256() if hasattr(hashlib, "sha256") else hashlib.new("sha256")
    except (ImportError, AttributeError, ValueError):
        pass
    try:
        try:
            found = os.stat(path)
            kind = found[0] & 0xF000
            if kind != 0x8000:
                raise OSError(21 if kind == 0x4000 else 22)
            left = found[6]
            with open(path, "rb") as file:
                while True:
                    try:
                        b = memoryview(bytearray(min(left, block)))
                        break
                    except MemoryError:
                        block //= 2
                        if block < 256:
                            raise
                w("%sS%d,%d%s" % (t, left, block, t))
                while left:
                    n = min(left, block)
                    if window:
                        window -= 1
                    else:
                        i(1)
                    at = 0
                    while at < n:
                        got = file.readinto(b[at:n])
                        if not got:
                            raise OSError(5)
                        at += got
                    if digest:
                        digest.update(b[:n])
                    if raw:
                        w("%s#%x;D" % (t, n + 1))
                        # In slices: nothing is copied, and a WebREPL makes frames of them.
                        for at in range(0, n, 1024):
                            stdout.buffer.write(b[at : min(at + 1024, n)])
                        w(t)
                    else:
                        from binascii import b2a_base64

                        s = b2a_base64(b[:n])[:-1].decode()
                        w("%s=%x;D%s%s" % (t, len(s) + 1, s, t))
                    left -= n
            w(t + "H")
            for at in digest.digest() if digest else b"":
                w("%02x" % at)
            w(t)
        except OSError as error:
            w("%sE%d%s" % (t, error.args[0], t))
            while i(1) != b"\n":
                pass
    finally:
        w(t + "Q" + t)
