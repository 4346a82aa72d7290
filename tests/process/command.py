"""The program as a user runs it: real processes, a real pipe or a real terminal."""

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

import run_a3c
from a3c import load_policy
from workers.processes.start import context, start_forkserver, start_process

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, str(ROOT / "run_a3c.py")]
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
signal.signal(signal.SIGINT, signal.default_int_handler)  # where the tests run in the background it is ignored,
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and this one under nohup; the programs they start would inherit it
FOREVER = ("--target-return", "1e9", "--max-env-steps", "1000000000")
MARK = "A3C_TESTED_PROGRAM"  # an environment variable that tells a program's processes from all others


class Program:
    """One started command whose output is collected while it runs; ends with everything it started."""

    def __init__(
        self,
        *arguments: object,
        size: tuple[int, int] | None = None,
        environment: dict[str, str] | None = None,
        command: Sequence[str] = COMMAND,
        cwd: Path = ROOT,
    ):
        """Run in a terminal of `size` (columns, lines), or piped where that is None."""
        self._chunks: list[bytes] = []
        self._mark = uuid.uuid4().hex
        # A terminal says how large it is, whatever whoever runs the tests has set.
        kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        variables = {**kept, "TERM": "xterm-256color", MARK: self._mark, **(environment or {})}
        output: int
        if size is None:
            self._reader, output = os.pipe()
        else:
            self._reader, output = pty.openpty()
            fcntl.ioctl(output, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.process = subprocess.Popen(
            [*command, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=variables,
            cwd=cwd,
            start_new_session=True,
        )
        os.close(output)
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()
        self.family: list[psutil.Process] = []

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        while everybody := self.everybody():
            for process in everybody:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait(10)
        self._thread.join(10)

    @property
    def output(self) -> str:
        return b"".join(self._chunks).decode(errors="replace")

    @property
    def text(self) -> str:
        """The output without escape codes."""
        return ESCAPE.sub("", self.output)

    def note_family(self) -> list[psutil.Process]:
        """Remember all processes started so far, to see later whether they have gone."""
        if self.process.poll() is None:
            self.family = psutil.Process(self.process.pid).children(recursive=True)
        return self.family

    def everybody(self) -> list[psutil.Process]:
        """All processes of the program that live, orphans too: each inherits the program's mark."""
        return [
            process
            for process in psutil.process_iter(["environ"])
            if (process.info["environ"] or {}).get(MARK) == self._mark and lives(process)
        ]

    def workers(self) -> list[psutil.Process]:
        """The actor-learners and the monitor: the forkserver's children."""
        children = psutil.Process(self.process.pid).children()
        found: list[psutil.Process] = []
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):  # such as git, which is asked for the commit
                found += child.children()
        return found

    def until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Wait for a condition; fail with the output where it does not come true in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited {seconds} s in vain; the output was:\n{self.text}"
            assert self.process.poll() is None or condition(), f"ended early; the output was:\n{self.text}"
            time.sleep(0.02)

    def until_training(self, run_dir: Path) -> None:
        """Wait until the first evaluation is on disk, so that workers and monitor are certainly at work."""
        evaluations = run_dir / "evaluations.csv"
        self.until(lambda: evaluations.exists() and len(evaluations.read_text().splitlines()) > 1)
        self.note_family()

    def wait(self, seconds: float = 100) -> int:
        code = self.process.wait(seconds)
        self._thread.join(10)
        return code

    def assert_nobody_left(self, seconds: float = 5) -> None:
        assert self.family, "the test has not noted the processes"
        _, alive = psutil.wait_procs(self.family, timeout=seconds)
        alive = [process for process in alive if lives(process)]  # what nobody has collected yet has ended
        assert not alive, f"left behind: {alive}"

    def _collect(self) -> None:
        while True:
            try:
                chunk = os.read(self._reader, 65536)
            except OSError:  # a terminal whose last process has ended
                chunk = b""
            if not chunk:
                os.close(self._reader)
                return
            self._chunks.append(chunk)


def lives(process: psutil.Process) -> bool:
    """Whether a process has not ended; one whose end nobody has asked about yet has."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def run_in_processes(target: Callable[..., None], arguments: Sequence[tuple[object, ...]]) -> None:
    """Run a function in as many processes at once as there are tuples of arguments, all of which must end well."""
    start_forkserver()
    processes = [context().Process(target=target, args=args) for args in arguments]
    for process in processes:
        start_process(process)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


def run(*arguments: object, **options: object) -> tuple[int, str]:
    """Run a command to its end, piped; its exit code and its output."""
    with Program(*arguments, **options) as program:  # type: ignore[arg-type]
        return program.wait(), program.text


def run_here(*arguments: object) -> tuple[int, str]:
    """Run a command inside this process, which has imported everything already; its exit code and its output.

    For what a process of the command's own adds nothing to. Those that it starts are as real as ever.
    """
    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.redirect_stderr(output):
        code = run_a3c.main([str(argument) for argument in arguments])
    return code, output.getvalue()


def assert_interrupted_and_saved(run_dir: Path) -> None:
    """A signal has ended the run, and what it had learned can be loaded."""
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert load_policy(run_dir / summary["checkpoint"])
    assert load_policy(run_dir / "checkpoints" / "latest.json")
