"""Commands run to be measured: in a real terminal or with their output discarded, timed from just before they start."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.benchmark import BenchmarkError
from benchmarks.machine import ROOT

TRAIN = (sys.executable, str(ROOT / "run_a3c.py"))
TERMINAL = (120, 40)  # columns, lines
KEPT_BYTES = 20_000  # of the output, for the message when something goes wrong
END_SECONDS = 10.0  # for a program that was asked to end
FAMILY_SECONDS = 1.0  # for what it started, once it has ended itself


class Program:
    """One started command; leaving the context ends it and everything that it started.

    Args:
        terminal: columns and lines of the terminal it runs in; None discards its standard output.
        variables: environment variables beside those of this process.
    """

    def __init__(self, command: Sequence[str], terminal: tuple[int, int] | None = None):
        environment = {**os.environ, "TERM": "xterm-256color"}
        self._output = b""
        reader, writer = pty.openpty() if terminal else os.pipe()
        if terminal:
            fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", terminal[1], terminal[0], 0, 0))
        stdout = writer if terminal else subprocess.DEVNULL
        self.started_ns = time.time_ns()
        self._clock = time.perf_counter()
        self.command = command
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=writer,
            env=environment,
            cwd=ROOT,
            start_new_session=True,
        )
        os.close(writer)
        self._drain = threading.Thread(target=self._read, args=(reader,), daemon=True)
        self._drain.start()

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            end_family(self.process.pid)
            self.process.wait()
        self._drain.join(END_SECONDS)

    def wait(self, limit: float) -> float:
        """Wait for its end and return the seconds since its start; its exit code is then `process.returncode`.

        Raises:
            BenchmarkError: it was still running after `limit` seconds, and has been ended.
        """
        overdue = threading.Event()

        def end() -> None:
            overdue.set()
            end_family(self.process.pid)

        alarm = threading.Timer(limit, end)
        alarm.start()
        try:
            self.process.wait()  # without a time-out, which would wait by polling
        finally:
            alarm.cancel()
        seconds = time.perf_counter() - self._clock
        if overdue.is_set():
            raise self.failure(f"did not end within {limit:g} s")
        return seconds

    def let_run(self, seconds: float) -> None:
        """Let it run for a while.

        Raises:
            BenchmarkError: it ended meanwhile.
        """
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        raise self.failure(f"ended early with exit code {self.process.returncode}")

    def succeed(self, limit: float) -> float:
        """Wait for its end and return the seconds since its start.

        Raises:
            BenchmarkError: it ended with an exit code other than 0, or not within `limit` seconds.
        """
        seconds = self.wait(limit)
        if self.process.returncode:
            raise self.failure(f"ended with exit code {self.process.returncode}")
        return seconds

    def failure(self, what: str) -> BenchmarkError:
        """An error that shows the command and the end of its output."""
        self._drain.join(1)
        output = self._output.decode(errors="replace").strip()
        return BenchmarkError(
            f"`{' '.join(self.command)}` {what}" + (f"; the end of its output:\n{output}" if output else "")
        )

    def _read(self, reader: int) -> None:
        while True:
            try:
                chunk = os.read(reader, 65536)
            except OSError:  # a terminal whose last process has ended
                chunk = b""
            if not chunk:
                os.close(reader)
                return
            self._output = (self._output + chunk)[-KEPT_BYTES:]


def end_family(pid: int) -> None:
    """Ask a process to end; kill it and what it started where they have not ended in time."""
    try:
        leader = psutil.Process(pid)
        family = [*leader.children(recursive=True), leader]
        leader.terminate()
        psutil.wait_procs([leader], timeout=END_SECONDS)
        _, alive = psutil.wait_procs(family, timeout=FAMILY_SECONDS)
        for process in alive:
            process.kill()
    except psutil.NoSuchProcess:
        return


def json_output(command: Sequence[str], limit: float) -> dict[str, Any]:
    """Run a command of ours that writes its result, an object of JSON, to the file that its option --output names."""
    with run_directory() as output:
        with Program([*command, "--output", str(output)]) as program:
            program.succeed(limit)
        result: dict[str, Any] = json.loads(output.read_text())
        return result


@contextmanager
def run_directory() -> Iterator[Path]:
    """A place, still empty, for one run's files: on the disk of the checkout, since writing there is measured too."""
    parent = ROOT / "benchmarks" / ".runs"
    parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "run"
