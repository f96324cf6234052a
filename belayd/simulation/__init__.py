"""A simulated board: MicroPython's unix port made to behave as a board at the end of a link.

A program of its own (`python -m belayd.simulation`), so that what runs on a board
never shares a process with the daemon. From the terminal inwards:

    link.py         a way in and out; one terminal at the speed of its line (pace.py)
    terminal.py     a pty for any tool, or a socket inherited from the daemon
    webrepl.py      a door for one WebREPL client: websocket.py frames, records.py files
    ring.py         an input ring that drops bytes
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

A board has one or several links; nothing inside knows which.
"""
