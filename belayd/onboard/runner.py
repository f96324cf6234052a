"""Runs a caller's code so that nothing it prints can be taken for its end.

_B(t, x, k) runs x and writes t, a letter, a payload and t again, t being a token
that the code cannot know. k says what x is: 0 statements, 1 an expression, both
as text; 2 a function of no arguments. Letters:

    N  statements ended; payload empty
    V  a value that the host can read back; payload its repr
    v  the same inside a tuple of one, streamed because memory was short
    O  another object; payload its type's name, a newline, its repr
    X  SystemExit; payload the repr of its arguments. It is raised again, so that
       the interpreter restarts as it does without belayd
    E  another exception; payload the traceback
    B  bytes, A bytearray; payload the bytes themselves

_V(t, v, c) writes a value's frame, c before its letter. What is readable is
decided by type, all the way down, since a class may print itself as anything.

What is so long that a thread's print may come in between says its length, so that
no such value is taken for another: after the first t stands # and the number of
bytes, or = and the number of characters, up to the second t, in hexadecimal and
with a semicolon. Raw bytes go out where _R says that the way is clear for them.

All names are bound in here: callers may call their own things print, type or map.
"""


def _B(g, r):
    import builtins as b
    from builtins import BaseException, MemoryError, SystemExit, bytearray, bytes, dict, eval
    from builtins import exec, getattr, hasattr, len, list, map, memoryview, print, range, repr
    from builtins import set, tuple, type
    from sys import stdout

    try:
        from sys import print_exception
    except ImportError:  # CircuitPython
        from traceback import print_exception as P

        def print_exception(e):
            P(e.__class__, e, getattr(e, "__traceback__", None))

    w = stdout.write
    u = stdout.buffer.write if r else None
    S = {type(None)}
    F = {list, tuple, set}
    for n in "int float str bytes bool complex range bytearray".split():
        if hasattr(b, n):
            S.add(getattr(b, n))
    if hasattr(b, "frozenset"):
        F.add(b.frozenset)

    def K(v):
        if type(v) in S:
            return 1
        # A list of what is still to be looked at, not recursion: stacks are small.
        # Deeper than 30 nothing is read, and what holds itself has no end.
        q = [(v,), None]
        d = 0
        for c in q:
            if c is None:
                d += 1
                if q[-1] is not None:
                    if d > 30:
                        return
                    q.append(None)
                continue
            for t in set(map(type, c)):
                if t in S:
                    continue
                if t is dict:
                    for x in c:
                        if type(x) is t:
                            q.append(x.keys())
                            q.append(x.values())
                elif t in F:
                    q.extend([x for x in c if type(x) is t])
                else:
                    return
        return 1

    def V(t, v, c):
        k = type(v)
        if u and (k is bytes or k is bytearray) and len(v) > 64:
            n = len(v)
            m = memoryview(v)
            w("%s#%x;%s%s" % (t, n + len(c) + 1, c, "B" if k is bytes else "A"))
            # In slices: nothing is copied, and a WebREPL makes frames of them.
            for a in range(0, n, 1024):
                u(m[a : a + 1024])
            w(t)
            return
        o = "V" if K(v) else "O" + k.__name__ + "\n"
        try:
            s = c + o + repr(v)
            n = len(s)
            w(t + ("=%x;" % n if n > 64 and o == "V" else "") + s + t)
        except MemoryError:
            s = None
            w(t + c + ("v" if o == "V" else o))
            print((v,), end="")
            w(t)

    def B(t, x, k):
        try:
            if k == 0:
                exec(x, g)
                w(t + "N" + t)
            else:
                V(t, eval(x, g) if k == 1 else x(), "")
        except SystemExit as e:
            w(t + "X" + repr(e.args) + t)
            raise
        except BaseException as e:
            w(t + "E")
            print_exception(e)
            w(t)

    return B, V


_B, _V = _B(globals(), _R)
del _R
