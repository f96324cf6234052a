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

_K tells whether a value's repr can be read back: decided by type, all the way
down, since a class may print itself as anything.
"""

import sys as _s


def _T():
    S = set()
    for n in "int float str bytes bool complex range bytearray".split():
        try:
            S.add(eval(n))
        except NameError:
            pass
    S.add(type(None))
    return S


def _K(v, S=_T()):
    if type(v) in S:
        return True
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
            elif t in (list, tuple, set) or t.__name__ == "frozenset" and t is frozenset:
                q.extend([x for x in c if type(x) is t])
            else:
                return False
    return True


def _B(t, x, k, w=_s.stdout.write, p=_s.print_exception, g=globals()):
    try:
        if k == 0:
            exec(x, g)
            w(t + "N" + t)
            return
        v = eval(x, g) if k == 1 else x()
        c = "V" if _K(v) else "O" + type(v).__name__ + "\n"
        try:
            w(t + c + repr(v) + t)
        except MemoryError:
            w(t + ("v" if c == "V" else c))
            print((v,), end="")
            w(t)
    except SystemExit as e:
        w(t + "X" + repr(e.args) + t)
        raise
    except BaseException as e:
        w(t + "E")
        p(e)
        w(t)
