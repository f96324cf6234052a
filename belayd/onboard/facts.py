"""Tells what a board is: one line, the repr of a tuple.

(implementation, version, platform, machine, unique_id, memory free, memory
allocated, modules, .mpy). What a board cannot tell is None; among the modules stand
sys.stdout where there is one, sys.stdin where it gives bytes, and belayd.staging where
a deployment broke off. After the line
come all 256 bytes where sys.stdout takes bytes, to show whether the way is clear.
"""

import sys


def _f():
    i = sys.implementation
    m = u = f = a = None
    try:
        import os

        m = os.uname()[4]
    except (ImportError, AttributeError, IndexError):
        m = getattr(i, "_machine", None)
    try:
        import machine

        u = machine.unique_id()
    except (ImportError, AttributeError):
        try:
            import microcontroller

            u = microcontroller.cpu.uid
        except (ImportError, AttributeError):
            pass
    try:
        import gc

        gc.collect()
        f = gc.mem_free()
        a = gc.mem_alloc()
    except (ImportError, AttributeError):
        pass
    h = []
    for n in "binascii deflate hashlib json vfs zlib".split():
        try:
            __import__(n)
            h.append(n)
        except ImportError:
            pass
    if hasattr(sys, "stdout"):
        h.append("sys.stdout")
    if hasattr(sys, "stdin") and hasattr(sys.stdin, "buffer"):
        h.append("sys.stdin")
    try:
        os.statvfs
        for n in [""] + ["/" + n for n in os.listdir("/")]:
            try:
                os.stat(n + "/.belayd")
                h.append("belayd.staging")
                break
            except OSError:
                pass
    except (NameError, AttributeError, OSError):
        pass
    print((i[0], i[1], sys.platform, m, u and bytes(u), f, a, h, getattr(i, "_mpy", getattr(i, "mpy", 0))))
    if hasattr(sys, "stdout") and hasattr(sys.stdout, "buffer"):
        sys.stdout.buffer.write(bytes(range(256)))


_f()
del _f
