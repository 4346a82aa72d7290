"""No child outlives its parent, not even in C code that never lets go of the interpreter; and the cursor comes back.

One parent starts a child of each kind and is killed; every test looks at what became of one of them.
"""

import collections
import itertools
import multiprocessing
import os
import pty
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

import psutil
import pytest

from tests.process.command import ROOT, lives
from tests.process.terminal import SHOW_CURSOR
from workers.processes import entry
from workers.processes.start import context, inherited

KINDS = ("waits", "is stuck", "begins late")
WITH_TERMINAL = ("waits", "begins late")  # whose process runs no environment, so that nothing there gets stuck
CASES = [*((kind, False) for kind in KINDS), *((kind, True) for kind in WITH_TERMINAL)]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel ends what is stuck")


def child(kind: str, folder: Path, terminal: str | None, messages: Connection) -> None:
    """Process target: do what its kind says, for ever."""
    messages.send(os.getpid())
    if kind == "begins late":
        parent = multiprocessing.parent_process()
        assert parent is not None
        wait([parent.sentinel])
    entry.run(folder / "child.log", lambda: work(kind, folder), terminal)


def work(kind: str, folder: Path) -> None:
    (folder / kind).touch()
    if kind == "waits":
        threading.Event().wait()
    collections.deque(itertools.repeat(None), maxlen=0)  # C code that no thread and no signal of Python's interrupts


def parent(folder: Path, terminals: list[str]) -> None:
    """Start a child of each kind, with and without a terminal, print their process ids and wait to be killed."""
    multiprocessing.set_forkserver_preload([__name__])
    receiver, sender = context().Pipe(duplex=False)
    with inherited():
        for kind, terminal in [*((kind, None) for kind in KINDS), *zip(WITH_TERMINAL, terminals, strict=True)]:
            context().Process(target=child, args=(kind, folder, terminal, sender)).start()
            print(receiver.recv(), flush=True)
    threading.Event().wait()


@dataclass(frozen=True, slots=True)
class Bereaved:
    """What has become of the children and their terminals after the parent was killed."""

    children: dict[tuple[str, bool], psutil.Process]  # by kind, and whether it has a terminal
    written: dict[str, str]  # on the terminal of each kind
    folder: Path


@pytest.fixture(scope="module")
def bereaved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bereaved]:
    folder = tmp_path_factory.mktemp("border")
    pairs = [pty.openpty() for _ in WITH_TERMINAL]
    terminals = [os.ttyname(output) for _, output in pairs]
    script = f"from pathlib import Path; from {__name__} import parent; parent(Path({str(folder)!r}), {terminals})"
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}  # whatever a test before this one has left there
    variables.pop("PYTHONSAFEPATH", None)
    command = [sys.executable, "-c", script]
    with (
        open(folder / "stderr", "w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, cwd=ROOT, env=variables) as process,
    ):
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in CASES]
            assert all(lines), (folder / "stderr").read_text()
            children = {case: psutil.Process(int(line)) for case, line in zip(CASES, lines, strict=True)}
            deadline = time.monotonic() + 60
            while not (folder / "waits").exists() or not are_stuck(children):
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            process.kill()
    deadline = time.monotonic() + 5
    while any(map(lives, children.values())) and time.monotonic() < deadline:
        time.sleep(0.02)
    written = {kind: read(reader) for kind, (reader, _) in zip(WITH_TERMINAL, pairs, strict=True)}
    yield Bereaved(children, written, folder)
    for one in children.values():
        if lives(one):
            one.kill()
    for descriptor in itertools.chain(*pairs):
        os.close(descriptor)


def are_stuck(children: dict[tuple[str, bool], psutil.Process]) -> bool:
    """Whether those that are to be so have used a core for long enough."""
    return all(one.cpu_times().user > 0.2 for (kind, _), one in children.items() if kind == "is stuck")


def read(terminal: int) -> str:
    readable, _, _ = select.select([terminal], [], [], 0)
    return os.read(terminal, 1000).decode() if readable else ""


@pytest.mark.parametrize(("kind", "has_terminal"), CASES)
def test_nobody_outlives_a_killed_parent(kind: str, has_terminal: bool, bereaved: Bereaved) -> None:
    assert not lives(bereaved.children[kind, has_terminal])


def test_the_cursor_is_shown_again(bereaved: Bereaved) -> None:
    assert bereaved.written == dict.fromkeys(WITH_TERMINAL, f"{SHOW_CURSOR}\r\n")


def test_nothing_is_begun_after_the_parents_death(bereaved: Bereaved) -> None:
    assert not (bereaved.folder / "begins late").exists()
