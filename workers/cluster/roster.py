"""Which worker is where, in shared memory: written by the gate, read by the supervisor for the console."""

from collections.abc import Iterable

from shared.memory import SharedArray, Slots
from workers.cluster.exchange import Seen

STATES = ("starting", "running", "stopped", "dead", "restarting", "lost")


class Roster:
    """Which node has which workers, and how each of them is. The first workers are the run's own machine's."""

    def __init__(self, workers: int):
        self._local = SharedArray((1,))  # workers on the run's own machine; 0: not planned yet
        self._names = Slots(workers)  # of each worker's node
        self._seen = SharedArray((workers, 3))  # state, pid, memory

    def plan(self, local: int, names: dict[int, str]) -> None:
        """Note how many workers are local, and of each of the others the name of its node."""
        for index, name in names.items():
            self._names.put(index, name.encode())
        self._local.numbers[0] = local

    @property
    def local(self) -> int:
        return int(self._local.numbers[0])

    def node(self, worker_index: int) -> str:
        """The name of a worker's node; "" of the run's own machine."""
        return (self._names.get(worker_index) or b"").decode()

    def note(self, worker_index: int, seen: Seen) -> None:
        self._seen.array[worker_index] = STATES.index(seen.state), seen.pid or 0, seen.memory_bytes or 0

    def lose(self, workers: Iterable[int]) -> None:
        """Note that nobody knows of workers any more."""
        for index in workers:
            self._seen.array[index] = STATES.index("lost"), 0, 0

    def seen(self, worker_index: int) -> tuple[str, int | None, int | None]:
        """State, process id and memory of a worker on another node."""
        state, pid, memory = self._seen.array[worker_index].tolist()
        return STATES[state], pid or None, memory or None
