"""What workers hand over of their own state, so that it can be saved while they go on."""

from shared.memory import SharedArray

ATTEMPTS = 10  # a slot is written a few times a minute


class Deposits:
    """A slot per worker for some bytes that only it can tell: its generators, its episodes under way.

    Slot i is written by worker i alone (and by the supervisor while there is no worker i). Each deposit carries the
    number of the request that it answers; it is -1 while the slot is being written, so that a reader, who may come at
    any moment, takes whole deposits only. A worker that dies in the middle of one leaves the slot empty.
    """

    def __init__(self, workers: int, size: int):
        self._bytes = SharedArray((workers, size), "uint8")
        self._lengths = SharedArray((workers,), "int64")
        self._numbers = SharedArray((workers,), "int64")
        self._numbers.array[:] = -1
        self.size = size

    def put(self, worker_index: int, number: int, content: bytes) -> None:
        """Replace a worker's deposit; content of more than `size` bytes leaves the slot empty."""
        self._numbers.numbers[worker_index] = -1
        if len(content) <= self.size:
            self._lengths.numbers[worker_index] = len(content)
            self._bytes.array[worker_index, : len(content)] = memoryview(content)
            self._numbers.numbers[worker_index] = number

    def clear(self, worker_index: int) -> None:
        """Forget a worker's deposit."""
        self._numbers.numbers[worker_index] = -1

    def number(self, worker_index: int) -> int:
        """The request that a worker's deposit answers; -1 where it has none."""
        return int(self._numbers.numbers[worker_index])

    def answered(self, number: int) -> bool:
        """Whether every worker has answered this request or a later one."""
        return min(self._numbers.numbers) >= number

    def get(self, worker_index: int) -> bytes | None:
        """A worker's last deposit, or None."""
        for _ in range(ATTEMPTS):
            number = self.number(worker_index)
            if number < 0:
                return None
            content = self._bytes.array[worker_index, : self._lengths.numbers[worker_index]].tobytes()
            if self.number(worker_index) == number:
                return content
        return None
