"""Processes that hang: found by their silence, and killed one at a time."""

from collections.abc import Sequence

from workers.processes.child import Child

AWAKE_SECONDS = 1.0  # a longer time between two calls is one in which this process did not run, and maybe no other
LAST_CHANCE = 1.0  # seconds to show life, for those that may have waited for a process that was killed


class HangWatch:
    """Listens to a machine's processes of a run, of which `workers` say how long a step may take."""

    def __init__(self, workers: Sequence[Child]):
        self._workers = workers
        self._longest_pause = 0.0  # without an environment step, that a worker has come back from

    def kill_hung(self, children: Sequence[Child], elapsed: float, ending: bool) -> None:
        """Kill the process that is longest overdue, `elapsed` seconds after the last call; none in a run's end."""
        alive = [child for child in children if child.is_alive]
        pauses = {child: child.listen(min(elapsed, AWAKE_SECONDS)) for child in alive}
        longest = self._longest_pause = max(self._longest_pause, *(pauses.get(child, 0) for child in self._workers), 0)
        late = max(alive, key=lambda child: child.overdue(longest), default=None)
        if ending or late is None or late.overdue(longest) <= 0:
            return
        if late.computes():
            late.silent -= LAST_CHANCE
            return
        late.kill_hung(longest)
        for child in alive:
            child.silent = min(child.silent, max(child.patience.step - LAST_CHANCE, 0.0))
