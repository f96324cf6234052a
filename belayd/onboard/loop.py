"""Serves calls until it is told to stop: one request in, one frame out, little to compile.

_L(t), installed after runner.py, is started at the raw prompt and frames with the same token
and letters. A request is four hexadecimal digits, the body's length, then a letter
and the body, all without the bytes 1 to 5: Ctrl-C always means Ctrl-C, and what is
left unread can never run at the raw prompt.

    j  body: a JSON list of a function's name and its arguments
    e  body: an expression
    g  body: four hexadecimal digits of credit and an expression; an iterator of its
       value is pushed as frames I (then a value's letter) while credit lasts, then
       frame N. Without credit it waits for c (body: more credit in hexadecimal),
       s (body: an expression to send into the generator; credit for one) or z (close)
    q  leave; frame Q, which comes however the loop ends

Ctrl-C ends the call with frame E and leaves: what was sent after it must not run.
SystemExit leaves as well, and is raised again for the interpreter to restart.
"""


def _L(g, V):
    from builtins import BaseException, KeyboardInterrupt, StopIteration, SystemExit
    from builtins import eval, hasattr, int, isinstance, iter, next, repr
    from json import loads
    from sys import print_exception, stdin, stdout

    i = stdin.buffer.read
    w = stdout.write

    def R():
        h = i(5)
        return h[4], i(int(h[:4], 16))

    def G(t, b):
        n = int(b[:4], 16)
        v = iter(eval(b[4:], g))
        s = None
        try:
            while 1:
                while not n:
                    k, b = R()
                    if k == 122:
                        return
                    if k == 99:
                        n = int(b, 16)
                    else:
                        n = 1
                        s = eval(b, g)
                try:
                    y = next(v) if s is None else v.send(s)
                except StopIteration:
                    return
                s = None
                V(t, y, "I")
                n -= 1
        finally:
            if hasattr(v, "close"):
                v.close()

    def L(t):
        try:
            while 1:
                k, b = R()
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
                        V(t, eval(b, g), "")
                    else:
                        G(t, b)
                        w(t + "N" + t)
                except SystemExit as e:
                    w(t + "X" + repr(e.args) + t)
                    raise
                except BaseException as e:
                    w(t + "E")
                    print_exception(e)
                    w(t)
                    if isinstance(e, KeyboardInterrupt):
                        return
        finally:
            w(t + "Q" + t)

    return L


_L = _L(globals(), _V)
del _V
