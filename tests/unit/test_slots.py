"""Slots: whole contents, whoever writes and whenever the writer dies; in any process that they are passed to."""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import memory as module
from shared.memory import Slots
from tests.unit.processes import SECONDS, die, exit_code, forked, killed, wait_until
from workers.processes.start import context, start_process

LARGE = 300_000


@given(st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=9)), max_size=20))
def test_a_slot_holds_what_was_put_last(puts: list[tuple[int, bytes]]) -> None:
    slots, last = Slots(3), dict[int, bytes]()
    for index, content in puts:
        slots.put(index, content)
        last[index] = content
    assert [slots.get(index) for index in range(3)] == [last.get(index) for index in range(3)]


def test_contents_of_any_size_and_their_successors_do_not_touch_each_other() -> None:
    slots = Slots(3)
    contents = [os.urandom(size) for size in (0, 5_000_000, 17)]
    for version in range(3):
        for index, content in enumerate(contents):
            slots.put(index, content * (1 + version % 2))
    assert [slots.get(index) for index in range(3)] == contents


def test_a_write_in_parts_is_one_content(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system may write less than it is asked to."""
    write = os.pwrite
    monkeypatch.setattr(module.os, "pwrite", lambda file, content, offset: write(file, content[:3], offset))
    slots = Slots(1)
    slots.put(0, b"ten bytes.")
    assert slots.get(0) == b"ten bytes."


# -- deaths -----------------------------------------------------------------------------------------------------------


class Deadly:
    """Numbers whose writing the process does not live to see."""

    def __init__(self, numbers: Any):
        self.numbers = self
        self._numbers = numbers

    def __getitem__(self, index: int) -> int:
        return int(self._numbers[index])

    def __setitem__(self, index: int, value: int) -> None:
        die()


def die_in_the_bytes(slots: Slots) -> None:
    write = os.pwrite

    def half(file: int, content: Sequence[int], offset: int) -> int:
        write(file, content[: len(content) // 2], offset)
        die()
        return 0

    module.os.pwrite = half  # type: ignore[assignment]


def die_before_the_length(slots: Slots) -> None:
    slots._lengths = Deadly(slots._lengths.numbers)  # type: ignore[assignment]


def die_before_the_version(slots: Slots) -> None:
    slots._versions = Deadly(slots._versions.numbers)  # type: ignore[assignment]


@pytest.mark.parametrize("prepare", [die_in_the_bytes, die_before_the_length, die_before_the_version])
@pytest.mark.parametrize("before", [None, b"first", b"second, longer than the first"])
def test_a_writer_that_dies_halfway_leaves_what_was_there(
    prepare: Callable[[Slots], None], before: bytes | None
) -> None:
    slots = Slots(1)
    for content in (b"first", before) if before else ():
        slots.put(0, content)

    def put_and_die() -> None:
        prepare(slots)
        slots.put(0, b"never whole")

    assert killed(put_and_die)
    assert slots.get(0) == before
    slots.put(0, b"of its successor")
    assert slots.get(0) == b"of its successor"


def test_a_writer_killed_at_any_moment_leaves_a_whole_content() -> None:
    slots = Slots(1)
    slots.put(0, b"0")
    for _ in range(20):
        before = slots._versions.numbers[0]
        with forked(write_on, slots) as writer:
            wait_until(lambda before=before: slots._versions.numbers[0] > before + 2, pause=0)  # type: ignore[misc]
            writer.kill()
        content = slots.get(0)
        assert content
        assert content == content[:1] * len(content)


# -- readers ----------------------------------------------------------------------------------------------------------


class Watched(Slots):
    """Counts the attempts of its reader: more than one where it was overtaken."""

    attempts = 0

    def _offset(self, index: int, version: int, length: int) -> int:  # type: ignore[override]
        self.attempts += 1
        return super()._offset(index, version, length)


def write_on(slots: Slots) -> None:
    number = 0
    while True:
        number += 1
        slots.put(0, bytes([number % 251]) * (LARGE - number % 1000))
        time.sleep(1e-5)


def test_a_content_that_is_overwritten_while_it_is_read_is_never_returned() -> None:
    slots, seen, overtaken = Watched(1), set(), 0

    def enough() -> bool:
        nonlocal overtaken
        before = slots.attempts
        content = slots.get(0)
        overtaken += slots.attempts - before > 1
        if content is not None:
            assert content == content[:1] * len(content)
            seen.add(content[0])
        return overtaken >= 20 and len(seen) >= 20

    with forked(write_on, slots):
        wait_until(enough, pause=0)


def test_a_reader_does_not_wait_for_ever_for_a_writer_that_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    slots, read = Slots(1), os.pread
    slots.put(0, b"first")

    def overtaken(file: int, length: int, offset: int) -> bytes:
        slots.put(0, b"next")
        return read(file, length, offset)

    monkeypatch.setattr(module.os, "pread", overtaken)
    assert slots.get(0) is None


# -- other processes --------------------------------------------------------------------------------------------------


def answer(slots: Slots) -> None:
    assert slots.get(0) == b"question"
    slots.put(1, b"answer")


def test_a_forked_process_shares_them() -> None:
    slots = Slots(2)
    slots.put(0, b"question")
    with forked(answer, slots) as process:
        assert exit_code(process) == 0
    assert slots.get(1) == b"answer"


def test_a_process_of_the_forkserver_that_they_are_passed_to_shares_them() -> None:
    slots = Slots(2)
    slots.put(0, b"question")
    process = context().Process(target=answer, args=(slots,), name="answering")
    start_process(process)
    process.join(2 * SECONDS)
    assert process.exitcode == 0
    assert slots.get(1) == b"answer"


def test_their_file_is_closed_with_them() -> None:
    slots = Slots(1)
    descriptor = slots._file.descriptor
    os.fstat(descriptor)
    del slots
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
