"""Serves calls until it is told to stop: one request in, one frame out, little to compile.

_L(t), installed after runner.py, is started at the raw prompt and frames with the same token
and letters. A request is four hexadecimal digits, the body's length, then a letter
and the body, all without the bytes 1 to 5: Ctrl-C always means Ctrl-C, and what is
left unread can never run at the raw prompt.

    j  body: a JSON list of a function's name and its arguments
    e  body: an expression
    g  body: eight letters that name an iteration from here on, four hexadecimal digits
       of credit and an expression. An iterator of its value is pushed as frames I (then
       a value's letter) while credit lasts, then comes frame P: it waits, and whatever
       else is asked runs meanwhile. Or frame N: it has ended and is gone
    c, s, z
       body: the name, then more credit in hexadecimal; an expression to send into the
       generator, credit for one; or nothing, to close it. Frames as of g, frame U if
       there is none of this name
    l  what is too long for one write. Body: its length in hexadecimal and its letter.
       Each time that frame A asks for one, a piece of at most 240 bytes comes, after
       the five bytes that stand in it for 1 to 5 (0 for none). As e, j, g or s it is
       done when all is there; b is bytes and a a bytearray, kept for the next e or g,
       whose value is then called with a list of them. Frame M: too little memory for
       that, nothing is kept
    q  leave; frame Q, which comes however the loop ends

Ctrl-C ends the call with frame K, else as E, and leaves: what was sent after it must not run.
SystemExit leaves as well, and is raised again for the interpreter to restart.
"""


def _L(g, V):
    from builtins import BaseException, KeyboardInterrupt, MemoryError, StopIteration, SystemExit
    from builtins import bytearray, bytes, eval, hasattr, int, isinstance, iter, len, min, next
    from builtins import range, repr
    from builtins import getattr
    from json import loads
    from sys import stdin, stdout

    try:
        from sys import print_exception
    except ImportError:  # CircuitPython
        from traceback import print_exception as P

        def print_exception(e):
            P(e.__class__, e, getattr(e, "__traceback__", None))

    i = stdin.buffer.read
    w = stdout.write
    p = []
    T = {}

    def M(t, b):
        n = int(b[:-1], 16)
        k = b[-1]
        f = b"\x01\x02\x03\x04\x05"
        d = q = None
        try:
            d = bytearray(n)
            # All but a bytearray is copied at the end: room for that, and for the pieces.
            bytes(2048 + (k != 97) * n)
            for a in range(0, n, 240):
                w(t + "A" + t)
                q = i(5)
                s = i(min(n - a, 240))
                for c in range(5):
                    if q[c]:
                        s = s.replace(q[c : c + 1], f[c : c + 1])
                d[a : a + len(s)] = s
            if k == 97:
                p.append(d)
            elif k == 98:
                p.append(bytes(d))
            else:
                return k, bytes(d)
            w(t + "A" + t)
        except MemoryError:
            p.clear()
            d = None
            w(t + "M" + t)

    def R(t):
        while 1:
            h = i(5)
            b = i(int(h[:4], 16))
            if h[4] != 108:
                return h[4], b
            b = M(t, b)
            if b:
                return b

    def E(b):
        a = p[:]
        p.clear()
        v = eval(b, g)
        return v(a) if a else v

    def G(t, k, b):
        m = b[:8]
        v = T.get(m)
        n = 1
        s = None
        try:
            if k == 103:
                n = int(b[8:12], 16)
                v = T[m] = iter(E(b[12:]))
            elif v is None:
                return "U"
            elif k == 122:
                return "N"
            elif k == 99:
                n = int(b[8:], 16)
            else:
                s = eval(b[8:], g)
            while n:
                try:
                    y = next(v) if s is None else v.send(s)
                except StopIteration:
                    return "N"
                s = None
                V(t, y, "I")
                n -= 1
            m = None
            return "P"
        finally:
            if m and v is not None:
                T.pop(m, None)
                if hasattr(v, "close"):
                    v.close()

    def L(t):
        p.clear()  # of a call that was interrupted on its way
        try:
            while 1:
                k, b = R(t)
                if k == 113:
                    return
                try:
                    if k == 106:
                        b = loads(b)
                        f = g.get(b[0])
                        if f is None:
                            f = eval(b[0], g)
                        V(t, f(*b[1:]), "")
                    elif k == 101:
                        V(t, E(b), "")
                    else:
                        w(t + G(t, k, b) + t)
                except SystemExit as e:
                    w(t + "X" + repr(e.args) + t)
                    raise
                except BaseException as e:
                    k = isinstance(e, KeyboardInterrupt)
                    w(t + ("K" if k else "E"))
                    print_exception(e)
                    w(t)
                    if k:
                        return
        finally:
            w(t + "Q" + t)

    return L


_L = _L(globals(), _V)
del _V
