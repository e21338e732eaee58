"""Ends a process when its parent process has ended, even by SIGKILL."""

import os
import signal
import threading
import time

HARD_STOP_SECONDS = 20.0
STDIN = 0  # os.read on the descriptor: a daemon thread that holds the lock of sys.stdin blocks the interpreter's exit


def end_with_stdin() -> None:
    """Send SIGTERM to this process when its standard input closes, and SIGKILL if it has not exited after 20 s.

    The parent holds the other end of the pipe. The kernel closes it even if the parent is killed with SIGKILL.
    """

    def watch() -> None:
        while os.read(STDIN, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(HARD_STOP_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
