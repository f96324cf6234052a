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

_V(t, v, c) writes a value's frame, c before its letter. What is readable is
decided by type, all the way down, since a class may print itself as anything.

All names are bound in here: callers may call their own things print, type or map.
"""


def _B(g):
    import builtins as b
    from builtins import BaseException, MemoryError, SystemExit, dict, eval, exec, getattr
    from builtins import hasattr, list, map, print, repr, set, tuple, type
    from sys import print_exception, stdout

    w = stdout.write
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
        q = [(v,)]
        for c in q:
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
        o = "V" if K(v) else "O" + type(v).__name__ + "\n"
        try:
            w(t + c + o + repr(v) + t)
        except MemoryError:
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


_B, _V = _B(globals())
