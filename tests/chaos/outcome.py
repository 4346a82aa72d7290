"""What came of injecting a fault many times."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """Counts of one kind of fault."""

    tried: int  # injections that were attempted
    fired: int  # of them, those whose fault really happened
    survived: int  # of those, the ones after which everything was as promised
    lost: int  # and the ones after which it was not
    detail: str  # what was covered, or the first loss in words

    @classmethod
    def of(cls, trials: Iterable[tuple[bool, str]], detail: str) -> "Outcome":
        """Count trials: whether the fault fired, and what was lost ('' for nothing)."""
        results = list(trials)
        losses = [loss for fired, loss in results if fired and loss]
        fired = sum(fired for fired, _ in results)
        return cls(len(results), fired, fired - len(losses), len(losses), losses[0] if losses else detail)
