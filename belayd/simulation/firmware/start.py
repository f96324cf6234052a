"""Runs in the interpreter before its prompt: what a port's main() does at a reset.

MicroPython source. Mounts the board's filesystem, hides the host's, runs boot.py
and, for the friendly prompt, main.py; then `-i` gives the prompt in the same,
cleaned namespace. The token is printed before boot.py and after the scripts, so
that the program around it can tell them from the rest.
Arguments: folder, mode (raw or friendly), token, unique_id (hexadecimal), reset
cause, size of the flash in KiB (0: the folder itself), file descriptor of the
reset line.
"""


def _start():
    import micropython

    off = micropython.kbd_intr
    off(-1)
    import gc
    import io
    import os
    import sys

    import vfs

    here, folder, mode, token, unique_id, cause, flash_kib, line = sys.argv
    import machine

    machine._identity = bytes.fromhex(unique_id)
    machine._cause = int(cause)
    machine._line = open(int(line), "wb")
    if flash_kib == "0":
        vfs.umount("/")
        vfs.mount(vfs.VfsPosix(folder), "/")
    else:
        from flash import Flash

        flash = Flash(folder + "/flash.img")
        vfs.umount("/")
        try:
            vfs.mount(flash, "/")
        except OSError:
            vfs.VfsLfs2.mkfs(flash)
            vfs.mount(flash, "/")
        del sys.modules["flash"]
    os.chdir("/")
    sys.path[:] = ["", ".frozen", "/lib"]
    sys.argv[:] = []
    space = globals()
    for name in list(space):
        if name != "__name__":
            del space[name]
    gc.collect()

    def run(script):
        """Run one script as a port does; return True unless it failed."""
        try:
            with open(script, "rb") as file:
                source = file.read()
        except OSError:
            return True
        error = None
        # Twice, since a second Ctrl-C may come while the first is being caught.
        try:
            try:
                code = compile(source, script, "exec")
                source = None
                off(3)
                exec(code, space)
            except BaseException as caught:
                error = caught
        except BaseException as caught:
            error = caught
        off(-1)
        if error is None:
            return True
        if isinstance(error, SystemExit):
            machine._soft_reset()
        text = io.StringIO()
        sys.print_exception(error, text)
        for shown in text.getvalue().split("\n")[:-1]:
            if here not in shown:
                print(shown)
        return False

    sys.stdout.write(token)
    if run("boot.py") and mode == "friendly":
        run("main.py")
    gc.collect()
    sys.stdout.write(token)


_start()
