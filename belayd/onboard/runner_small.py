"""The runner for boards without sys.stdout and with little memory (micro:bit v1).

The same letters as runner.py, in less than 1 kB of heap with all that a call takes
(992 bytes on MicroPython 1.9.2): V has a line end before its payload, O carries
str(type) for the type's name, and nothing is streamed. One function: a second costs
64 bytes more. Code runs in the globals that are _B's own.
"""


def _B(t, x, k):
    try:
        if k == 0:
            exec(x)
            print(t + "N", end=t)
        else:
            v = eval(x) if k == 1 else x()
            k = "V"
            # What is still to be looked at; what holds itself ends with the memory.
            s = [v]
            for x in s:
                c = type(x)
                if c == dict:
                    for x in x.items():
                        s += x
                elif c in (list, tuple, set):
                    s += x
                elif c not in (int, float, str, bytes, bool, bytearray, range, type(None)):
                    k = "O" + str(type(v))
                    break
            del s
            print(t + k, repr(v), sep="\n", end=t)
    except SystemExit as e:
        print(t + "X" + repr(e.args), end=t)
        raise
    except BaseException as e:
        print(t, end="E")
        __import__("sys").print_exception(e)
        print(end=t)
