"""Tables on disk."""

import contextlib
import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from a3c.files import write_durably


class Table:
    """A CSV file that is complete to the last row at every moment; one that exists is gone on with.

    Raises:
        OSError: it cannot be written; rows that the disk refuses are written with the next one that it takes.
    """

    def __init__(self, path: Path, columns: list[str]):
        self._file: TextIO = open(path, "a", newline="", buffering=1)
        self._writer = csv.DictWriter(self._file, columns, lineterminator="\n")
        if not self._file.tell():
            with contextlib.suppress(OSError):  # then it is written with the first row that the disk takes
                self._writer.writeheader()

    def write(self, row: dict[str, Any]) -> None:
        """Append a row."""
        self._writer.writerow(row)

    def sync(self) -> None:
        """Make the rows written so far durable."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def cut_table(path: Path, keep: Callable[[int, dict[str, str]], bool]) -> list[dict[str, str]]:
    """Drop the rows of a table from the first on that `keep`, called with its index, does not want; return the others.

    A last row that was not written whole goes too. A table that is not there has no rows.
    """
    if not path.exists():
        return []
    with open(path, newline="") as file:
        content = file.read()
    header, *lines = content.split("\n")[:-1] or [""]
    columns = header.split(",")
    kept: list[dict[str, str]] = []
    for index, line in enumerate(lines):
        row = dict(zip(columns, line.split(","), strict=False))
        if len(row) != len(columns) or not keep(index, row):
            break
        kept.append(row)
    whole = "\n".join([header, *lines[: len(kept)], ""]) if header else ""
    if whole != content:
        write_durably(path, whole.encode())
    return kept
