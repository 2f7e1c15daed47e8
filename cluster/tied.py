"""Run a program that lives no longer than its parent: `python tied.py PARENT PROGRAM ARGUMENTS`.

SLURM signals every process of a step. Only our own part of a job asks for a requeue: the program
ignores the signals, and Lightning, which finds them taken, does not requeue either.
"""

import ctypes
import os
import signal
import sys

SET_PARENT_DEATH_SIGNAL = 1  # of Linux's prctl


def tie(parent: int) -> None:
    """End with the process that started this one, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    if os.getppid() != parent:  # it has ended meanwhile
        sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    for deaf in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(deaf, signal.SIG_IGN)
    for own in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python takes, and programs do not expect
        signal.signal(own, signal.SIG_DFL)
    tie(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
