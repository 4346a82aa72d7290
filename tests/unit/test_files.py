"""Files: whole at every moment, and read without trust."""

import errno
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a3c.files import discard_leftovers, json_bytes, json_object, read_file, write_durably

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


def test_a_write_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"a longer one", b"short", b""):
        write_durably(path, content)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["file"]


def test_the_content_is_synced_before_the_rename_and_the_name_after_it(tmp_path: Path) -> None:
    calls: list[str] = []
    system = mock.Mock(wraps=os, O_WRONLY=os.O_WRONLY, O_CREAT=os.O_CREAT, O_TRUNC=os.O_TRUNC, O_RDONLY=os.O_RDONLY)
    system.name = os.name
    with mock.patch("a3c.files.os", system):
        write_durably(tmp_path / "file", b"content")
    calls = [name for name, _, _ in system.method_calls if name in ("write", "fsync", "replace")]
    assert calls == ["write", "fsync", "replace", "fsync"]


def test_a_full_disk_is_told_with_the_files_name_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_durably(path, b"old")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with mock.patch("a3c.files.os.fsync", side_effect=full) as fault, pytest.raises(OSError, match=str(path)):
        write_durably(path, b"new")
    assert fault.called
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_missing_directory_is_told_with_the_files_own_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as refusal:
        write_durably(tmp_path / "none" / "file", b"")
    assert refusal.value.filename == str(tmp_path / "none" / "file")


def test_only_the_temporary_files_of_dead_processes_are_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-S", "-c", ""])
    dead.wait()
    gone = {f".latest.json.{dead.pid}.tmp", f".latest.json.{os.getpid()}.tmp"}
    stay = {f".latest.json.{os.getppid()}.tmp", "latest.json", ".tmp", f".latest.json.{10**12}.tmp", "a.1.tmp"}
    for name in gone | stay:
        (tmp_path / name).touch()
    discard_leftovers(tmp_path)
    assert set(os.listdir(tmp_path)) == stay
    discard_leftovers(tmp_path / "none")


def test_a_file_of_just_the_limit_is_read_and_a_larger_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_file(path, 5) == b"12345"
    with pytest.raises(OSError, match="larger than the 4 bytes"):
        read_file(path, 4)


@pytest.mark.parametrize("kind", ["missing", "dangling", "directory", "pipe", "linked pipe", "device"])
def test_nothing_but_a_regular_file_is_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if kind == "dangling":
        path.symlink_to("nowhere")
    if kind == "directory":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    if kind == "linked pipe":
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to("pipe")
    with pytest.raises(OSError, match=str(path) if kind != "device" else "/dev/zero"):
        read_file(path if kind != "device" else Path("/dev/zero"), 100)


def test_a_file_is_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert read_file(tmp_path / "link", 5) == b"12345"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.ENOSYS])
def test_a_file_system_that_cannot_sync_still_saves(number: int, tmp_path: Path) -> None:
    refusal = OSError(number, os.strerror(number))
    with mock.patch("a3c.files.os.fsync", side_effect=refusal) as fault:
        write_durably(tmp_path / "file", b"content")
    assert fault.call_count == 2
    assert (tmp_path / "file").read_bytes() == b"content"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_directory_that_fails_to_sync_is_a_failed_write(number: int, tmp_path: Path) -> None:
    failure = OSError(number, os.strerror(number))
    with mock.patch("a3c.files.os.fsync", side_effect=[None, failure]), pytest.raises(OSError, match=str(tmp_path)):
        write_durably(tmp_path / "file", b"content")


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(max_size=5), PLAIN, max_size=5))
def test_what_is_written_as_json_is_read_back(value: dict[str, Any]) -> None:
    assert json_object(json_bytes(value)) == value


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | st.text('{}[]":,01e-+.NaInfity \\u', max_size=60).map(str.encode))
def test_any_bytes_are_an_object_or_a_value_error(content: bytes) -> None:
    with suppress(ValueError):
        assert isinstance(json_object(content), dict)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "NaN",
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": 1, "a": 1}',
        '{"a": {"b": 1, "b": 2}}',
        '{"a": ' + "9" * 5000 + "}",
        '{"a":' * 10**5,
        "[" * 10**5,
        "{} {}",
        "\ufeff{}",
        "",
    ],
    ids=lambda text: text[:20],
)
def test_json_by_the_letter(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        json_object(text.encode())
