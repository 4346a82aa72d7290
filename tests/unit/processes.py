"""Forked processes that share the test's memory and die where the test wants them to."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

SECONDS = 30  # for what takes milliseconds, on a busy machine


@contextmanager
def forked(target: Callable[..., object], *arguments: Any) -> Iterator[BaseProcess]:
    """A process that is gone when the test is through with it."""
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def die() -> None:
    """End this process as the kernel ends one for want of memory: at once, with nothing cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def exit_code(process: BaseProcess) -> int | None:
    """The exit code of a process that ends now; None where it does not end in time."""
    process.join(SECONDS)
    return process.exitcode


def killed(target: Callable[..., object], *arguments: Any) -> bool:
    """Run a function in a process that is to die of it; whether it did."""
    with forked(target, *arguments) as process:
        return exit_code(process) == -signal.SIGKILL


def wait_until(condition: Callable[[], bool], pause: float = 0.002) -> None:
    """Wait for what other processes bring about."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {SECONDS} s in vain"
        time.sleep(pause)
