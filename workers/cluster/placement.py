"""Which node gets how many of a run's workers."""

from collections.abc import Sequence

from a3c.config import ConfigError


def placed(workers: int, rooms: Sequence[int]) -> list[range]:
    """The workers of the run's own machine, then those of each node, one after the other: as even as there is room.

    Args:
        rooms: CPUs of each node; the run's own machine has room for any number.
    Raises ConfigError: there are not as many; nodes that would have none are named as too many.
    """
    if workers <= len(rooms):
        raise ConfigError(f"cluster: {workers} workers are too few for {len(rooms)} nodes and this machine; use more")
    counts = [0] * (1 + len(rooms))
    limits = [workers, *rooms]
    for _ in range(workers):
        free = [place for place in range(len(counts)) if counts[place] < limits[place]]
        counts[min(free, key=counts.__getitem__)] += 1
    if any(count == 0 for count in counts[1:]):
        raise ConfigError("cluster: a node has no CPU for a worker")
    firsts = [sum(counts[:place]) for place in range(len(counts))]
    return [range(first, first + count) for first, count in zip(firsts, counts, strict=True)]
