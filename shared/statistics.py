"""Running statistics of all workers, one row each."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from shared.memory import SharedArray

Combine = Callable[[NDArray[np.float64]], NDArray[np.float32]]


class SharedStatistics:
    """A row per worker, written by that worker alone, and read by all.

    There are two copies of each row: a worker writes the one that nobody reads, and then counts its version up. So a
    row is read as it was written. A reader that is slower than two whole updates of a worker would read it torn.

    Args:
        combine: the numbers [K] that the rows [W, R] of all workers give.
        place: where they lie in the parameters [P].
    """

    def __init__(self, workers: int, size: int, combine: Combine, place: slice):
        self._copies = SharedArray((2, workers, size), "float64")
        self._versions = SharedArray((workers,))
        self._combine, self.place = combine, place

    def row(self, worker_index: int) -> NDArray[np.float64]:
        """A copy of what this worker has written last."""
        row: NDArray[np.float64] = self.rows()[worker_index]
        return row

    def write(self, worker_index: int, row: NDArray[np.float64]) -> None:
        """Replace this worker's row."""
        version = self._versions.numbers[worker_index] + 1
        self._copies.array[version % 2, worker_index] = row
        self._versions.numbers[worker_index] = version

    def rows(self) -> NDArray[np.float64]:
        """All rows as they were written last, [W, R]."""
        latest = self._versions.array % 2
        rows: NDArray[np.float64] = self._copies.array[latest, np.arange(len(latest))]
        return rows

    def write_into(self, parameters: NDArray[np.float32]) -> None:
        """Write what they give together where it lies in parameters [P]."""
        parameters[self.place] = self._combine(self.rows())

    def restore(self, rows: NDArray[np.float64]) -> None:
        """Resume from a capture's rows; of more workers than there are now, those beyond are dropped."""
        for index, row in enumerate(rows[: len(self._versions.array)]):
            self.write(index, row)
