"""The checkpoint barrier: how the snapshots of all workers come into one checkpoint while training continues."""

from shared.memory import SharedArray, Slots

LAST = 2**62  # the number of the snapshot that a worker leaves at its end: it answers every request


class CheckpointBarrier:
    """A request for every worker's snapshot, due until the worker has handed it in, complete when all have.

    A snapshot is bytes of any size: a worker's generators, its episodes under way. Nobody waits at this barrier. The
    checkpointer requests, and asks whether the request is complete; workers ask between two rollouts whether theirs is
    due. Written by the checkpointer: the number of the request. Written by worker i (and by the supervisor while there
    is no worker i): its snapshot, and the number of the request that it answers, -1 for none.
    Where the barrier is `led`, a request is due when a leader makes it so, at the checkpoint's moment; else at once.
    """

    def __init__(self, workers: int, led: bool):
        self._led = led
        self._requested, self._due, self._handed_in = SharedArray((1,)), SharedArray((1,)), SharedArray((workers,))
        self._handed_in.array[:] = -1
        self._snapshots = Slots(workers)

    def request(self) -> None:
        """Ask every worker for a snapshot (by the checkpointer alone)."""
        self._requested.numbers[0] += 1
        if not self._led:
            self.make_due()

    @property
    def is_requested(self) -> bool:
        """Whether there is a request that its leader has not made due yet."""
        return bool(self._due.numbers[0] < self._requested.numbers[0])

    def make_due(self) -> None:
        """Make what is requested due (by the leader alone, where there is one)."""
        self._due.numbers[0] = self._requested.numbers[0]

    @property
    def latest_due(self) -> int:
        """The number of the latest request that is due."""
        return int(self._due.numbers[0])

    def follow(self, number: int) -> None:
        """Make due what another barrier has: that of the run, where this one is a node's."""
        self._requested.numbers[0] = self._due.numbers[0] = number

    def due(self, worker_index: int) -> int:
        """The number of the snapshot that a worker still has to hand in; 0 where there is none."""
        due = self.latest_due
        return due if due > max(self._handed_in.numbers[worker_index], 0) else 0

    def hand_in(self, worker_index: int, number: int, snapshot: bytes) -> None:
        """Leave a worker's snapshot, which answers request `number` and all before."""
        self._snapshots.put(worker_index, snapshot)
        self._handed_in.numbers[worker_index] = number

    def forget(self, worker_index: int) -> None:
        """Drop the snapshot of a worker that has died: its successor starts new episodes. A last one stays."""
        if self._handed_in.numbers[worker_index] < LAST:
            self._handed_in.numbers[worker_index] = -1

    def complete(self) -> bool:
        """Whether every worker has answered the last request."""
        return not self.is_requested and min(self._handed_in.numbers) >= self._requested.numbers[0]

    def ended(self) -> bool:
        """Whether every worker has left its last snapshot."""
        return bool(min(self._handed_in.numbers) >= LAST)

    def answered(self, worker_index: int) -> int:
        """The number of the request that a worker's snapshot answers; -1 where it has none."""
        return int(self._handed_in.numbers[worker_index])

    def snapshot(self, worker_index: int) -> bytes | None:
        """The last snapshot of a worker; None where it has none."""
        return self._snapshots.get(worker_index) if self._handed_in.numbers[worker_index] >= 0 else None
