"""Tables on disk."""

import contextlib
import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from a3c.files import read_file, sync, write_durably

SIZE_LIMIT = 2**31  # bytes
Row = list[tuple[str, str]]  # of each cell its text and its value


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
        sync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def cut_table(path: Path, keep: Callable[[int, dict[str, str]], bool]) -> list[dict[str, str]]:
    """Drop the rows of a table from the first on that `keep`, called with its index, does not want; return the others.

    A last row that was not written whole goes too. A table that is not there has no rows. One that a spreadsheet has
    saved is read all the same, and written again as ours; whole numbers come without a fraction however they stand.

    Raises:
        ValueError: it cannot be understood; names the file and the line.
        OSError: it cannot be read or written.
    """
    if not path.exists():
        return []
    content = read_file(path, SIZE_LIMIT)
    try:
        header, rows = _parsed(content)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path.name}: {error}") from error
    kept = _wanted(path.name, header, rows, keep)
    whole = b""
    if header:
        raw = [header, *([text for text, _ in row] for row in rows[: len(kept)])]
        whole = "".join(",".join(cells) + "\n" for cells in raw).encode()
    if whole != content:
        write_durably(path, whole)
    return kept


def _wanted(
    name: str, header: list[str], rows: list[Row], keep: Callable[[int, dict[str, str]], bool]
) -> list[dict[str, str]]:
    """The rows up to the first that is not whole or that `keep` does not want."""
    kept: list[dict[str, str]] = []
    for index, cells in enumerate(rows):
        row = {column: value for column, (_, value) in zip(header, cells, strict=False)}
        try:
            if len(cells) != len(header) or not keep(index, row):
                break
        except (KeyError, ValueError) as error:
            what = f"there is no column {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{name}, row {index + 1}: {what}") from error
        kept.append(row)
    return kept


def _parsed(content: bytes) -> tuple[list[str], list[Row]]:
    """The columns' names, and of each row's cells the text to write and the value that it stands for."""
    if _is_ours(content):
        first, *lines = content.decode().split("\n")[:-1] or [""]
        rows = [[(cell, _value(cell)) for cell in line.split(",")] for line in lines]
        return first.split(",") if first else [], rows
    text = content.decode("utf-8-sig")
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    table = [cells for cells in csv.reader(text.splitlines(), delimiter=delimiter) if any(map(str.strip, cells))]
    header, *others = table or [[]]
    header = [cell.strip() for cell in header]
    values = [[_value(_with_point(cell.strip(), delimiter)) for cell in cells] for cells in others]
    return header, [list(zip(cells, cells, strict=True)) for cells in values]


def _is_ours(content: bytes) -> bool:
    """Whether a table stands there as it was written, up to a last row that may be in the making."""
    return not any(mark in content for mark in (b"\r", b'"', b";", b"\t", b"\xef\xbb\xbf", b"\n\n", b"\n,"))


def _with_point(cell: str, delimiter: str) -> str:
    """A number with a decimal point, which is a comma where columns are not."""
    return cell.replace(",", ".") if delimiter != "," and re.fullmatch(r"[+-]?\d+,\d+", cell) else cell


def _value(cell: str) -> str:
    """What a cell stands for: a whole number without a fraction, a truth value as Python writes it."""
    if re.fullmatch(r"[+-]?\d+(\.0*|(\.\d*)?[eE][+]?\d{1,2})", cell) and float(cell).is_integer():
        return str(int(float(cell)))
    return cell.capitalize() if cell.lower() in ("true", "false") else cell
