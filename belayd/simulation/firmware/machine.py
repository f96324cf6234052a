"""The simulated board's `machine`: the interpreter's own, with what needs hardware.

MicroPython source. A reset is asked for on the reset line, a file descriptor of
the program around the interpreter, which then ends this process; nothing of the
user's code runs any more, no `finally` and no `except`.
"""

from umachine import *

PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5

_identity = b""
_cause = PWRON_RESET
_line = None


def _pull(how):
    import micropython

    micropython.kbd_intr(-1)
    _line.write(how)
    while True:
        pass


def reset():
    """Reset as the button does: the link goes away."""
    _pull(b"H")


def _soft_reset():
    _pull(b"S")


def reset_cause():
    """Return why the board started, one of the *_RESET constants."""
    return _cause


def unique_id():
    """Return the board's identity, given by whoever started it."""
    return _identity


def freq(*hz):
    """Return a plausible clock; setting it changes nothing."""
    return 125000000
