"""A simulated board: MicroPython's unix port made to behave as a board at the end of a link.

A program of its own (`python -m belayd.simulation`), so that what runs on a board
never shares a process with the daemon. From the terminal inwards:

    terminal.py     the link: a pty for any tool, or a socket inherited from the daemon
    board.py        the loop that carries bytes, and what a reset or a crash means
    keyboard.py     input on its way in; Ctrl-C among it becomes an interrupt
    startup.py      output from a start to the prompt: what a board would not show is hidden
    mode.py         which prompt the interpreter is at, for the next soft reset
    child.py        the interpreter's process: started, interrupted, ended
    kernel.py       what all this asks of Linux
    moments.py      when an interrupt does the interpreter no harm
    interpreter.py  where MicroPython is found
    flash.py        the image file of a filesystem with a real size
    firmware/       MicroPython source that runs inside, before the prompt

Further links (WebREPL, a ring that drops bytes, a slow line) are further terminals
and wrappers around them; nothing inside knows which one it has.
"""
