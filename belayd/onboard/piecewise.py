"""Reads one file piece by piece, each when it is asked for: for boards that read no input meanwhile.

_BF(path) opens it and prints its size, and makes _BF what prints the next n bytes as
a literal: of base64 in a str where the board can make that. Of 0 bytes it prints the
SHA-256 of all so far as bytes (empty where there is none), and closes the file.
"""


def _BF(path):
    import os

    try:
        import hashlib

        digest = getattr(hashlib, "sha256", None) or (lambda: hashlib.new("sha256"))
        digest = digest()
    except (ImportError, AttributeError, ValueError):
        digest = None
    try:
        from binascii import b2a_base64
    except ImportError:
        b2a_base64 = None
    found = os.stat(path)
    kind = found[0] & 0xF000
    if kind != 0x8000:
        raise OSError(21 if kind == 0x4000 else 22)
    file = open(path, "rb")

    def piece(n):
        if not n:
            file.close()
            print(digest.digest() if digest else b"")
            return
        data = file.read(n)
        if digest:
            digest.update(data)
        print(repr(b2a_base64(data)[:-1].decode() if b2a_base64 else data))

    global _BF
    _BF = piece
    print(found[6])
