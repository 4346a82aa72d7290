"""The first import of a forkserver: takes it, and all that it will start, out of the reach of the terminal's signals.

A terminal's Ctrl-C and hang-up, or `timeout`, signal every process of a group, and only the parent acts on them: so the
forkserver has a group of its own. It is started with these signals blocked, so that none can end it before this; from
here on they are ignored instead, since a blocked signal would stay blocked in whatever an environment starts. Does
nothing in any other process.
"""

import contextlib
import os
import signal

from workers.processes.start import FORKSERVER, TERMINAL_SIGNALS, redirect_output

if log := os.environ.pop(FORKSERVER, ""):
    os.setpgid(0, 0)
    for number in TERMINAL_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINAL_SIGNALS)
    with contextlib.suppress(OSError):  # a disk that refuses it must not keep a run from starting
        redirect_output(log)
