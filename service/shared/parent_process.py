"""Ends a process when the one that started it is gone, however it went."""

import os
import signal
import threading
import time

HARD_STOP_SECONDS = 20.0
STDIN = 0  # read past Python's own buffer, whose lock a daemon thread would take into the interpreter's end


def end_with_stdin() -> None:
    """Send this process SIGTERM once its standard input closes, and SIGKILL if that does not end it.

    A pipe closes even when its other end was killed with SIGKILL, which a parent cannot pass on by itself.
    """

    def watch() -> None:
        while os.read(STDIN, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(HARD_STOP_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
