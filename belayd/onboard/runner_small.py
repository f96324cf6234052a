"""The runner for boards without sys.stdout and with little memory (micro:bit v1).

The same two functions and letters as runner.py, in about 1 kB of heap (measured
on MicroPython 1.9.2): V has a line end before its payload, O carries str(type)
for the type's name, and nothing is streamed.
"""

def _K(v):
    s = [v]
    for v in s:
        t = type(v)
        if t in (list, tuple, set):
            s.extend(v)
        elif t == dict:
            s.extend(v.keys())
            s.extend(v.values())
        elif t not in (int, float, str, bytes, bool, type(None)):
            return
    return 1


def _B(t, x, k):
    try:
        if k == 0:
            exec(x, globals())
            print(t + "N", end=t)
        else:
            v = eval(x, globals()) if k == 1 else x()
            print(t + "V" if _K(v) else t + "O" + str(type(v)), repr(v), sep="\n", end=t)
    except SystemExit as e:
        print(t + "X" + repr(e.args), end=t)
        raise
    except BaseException as e:
        print(t, end="E")
        __import__("sys").print_exception(e)
        print(end=t)
