"""Tells what only CircuitPython has, and turns auto-reload off: prints the words that hold, comma-separated.

    storage.readonly      code cannot write the root filesystem: the USB drive has it
    runtime.autoreload    auto-reload was on, by supervisor.runtime
    enable_autoreload     it may have been on, by the functions of versions before 8

Source: CircuitPython docs, modules storage and supervisor; not tried on hardware.
"""


def _c():
    h = []
    try:
        import storage

        if storage.getmount("/").readonly:
            h.append("storage.readonly")
    except (ImportError, AttributeError, OSError):
        pass
    try:
        import supervisor

        r = getattr(supervisor, "runtime", None)
        if hasattr(r, "autoreload"):
            if r.autoreload:
                r.autoreload = False
                h.append("runtime.autoreload")
        else:
            supervisor.disable_autoreload()
            h.append("enable_autoreload")
    except (ImportError, AttributeError):
        pass
    print(",".join(h))


_c()
del _c
