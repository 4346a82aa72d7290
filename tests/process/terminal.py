"""The program as a job of a shell, in a terminal of its own at which keys are typed."""

import fcntl
import os
import re
import signal
import struct
import termios
from typing import Self

import psutil

from tests.process.command import COMMAND, Program

CTRL_C, CTRL_Z = b"\x03", b"\x1a"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
SUSPENDED = 128 + signal.SIGTSTP
signal.signal(signal.SIGTSTP, signal.SIG_DFL)  # where the tests are started it may be ignored, and is inherited
# The first terminal that a session's leader opens controls the session: what is typed there signals its jobs. The shell
# stays when the program has gone, since a terminal that loses its session is reset, and nothing could be seen of what
# the program has left. What is typed then is a command of the shell's, such as fg; a Ctrl-C too late for the program is
# not to end the shell instead.
SHELL = """
exec <"$(tty <&2)"
set -m
trap : INT
"$@"
echo "exit code $?."
trap "" INT
while read -r line; do $line; echo "exit code $?."; done
"""


class Job(Program):
    """One command in the foreground of a shell with job control; ends with everything it started."""

    def __init__(self, *arguments: object, size: tuple[int, int] = (80, 24)):
        super().__init__("-c", SHELL, "sh", *COMMAND, *arguments, size=size, command=["sh"])
        self.before = self.attributes()
        self.until(lambda: os.tcgetpgrp(self._reader) not in (0, self.process.pid))
        self.pid = os.tcgetpgrp(self._reader)  # of the program, whose group has the terminal now

    def __enter__(self) -> Self:
        return self

    @property
    def codes(self) -> list[int]:
        """What the shell has said of the program's ends and stops so far."""
        return [int(code) for code in re.findall(r"exit code (\d+)\.", self.text)]

    @property
    def cursor_is_visible(self) -> bool:
        return self.output.rfind(SHOW_CURSOR) >= self.output.rfind(HIDE_CURSOR)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._reader, keys)

    def resize(self, width: int, height: int) -> None:
        """Drag the terminal's corner."""
        fcntl.ioctl(self._reader, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def attributes(self) -> list[object]:
        """The terminal's settings: echo, line editing, the keys that signal."""
        return list(termios.tcgetattr(self._reader))

    def code(self, seconds: float = 60) -> int:
        """Wait until the program has ended or stopped for the first time; what its shell says of that."""
        self.until(lambda: bool(self.codes), seconds)
        return self.codes[0]

    def others(self) -> list[psutil.Process]:
        """Everybody but the shell: the program and whatever it has started or left."""
        return [process for process in self.everybody() if process.pid != self.process.pid]
