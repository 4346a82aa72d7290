"""Tables on disk."""

import csv
from pathlib import Path
from typing import Any, TextIO


class Table:
    """A CSV file that is complete to the last row at every moment."""

    def __init__(self, path: Path, columns: list[str]):
        self._file: TextIO = open(path, "w", newline="", buffering=1)
        self._writer = csv.DictWriter(self._file, columns, lineterminator="\n")
        self._writer.writeheader()

    def write(self, row: dict[str, Any]) -> None:
        """Append a row."""
        self._writer.writerow(row)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
