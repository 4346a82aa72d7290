"""What came of injecting a fault many times."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Facts = Mapping[str, int | float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Counts of one kind of fault."""

    tried: int  # injections that were attempted
    fired: int  # of them, those whose fault really happened
    survived: int  # of those, the ones after which everything was as promised
    lost: int  # and the ones after which it was not
    detail: str  # what was covered, or the first loss in words
    facts: Facts = field(default_factory=dict)  # by words; of several outcomes integers add up, the largest float stays
    losses: tuple[str, ...] = ()  # each in words

    @classmethod
    def of(cls, trials: Iterable[tuple[bool, str]], detail: str, facts: Facts | None = None) -> "Outcome":
        """Count trials: whether the fault fired, and what was lost ('' for nothing)."""
        results = list(trials)
        losses = tuple(loss for fired, loss in results if fired and loss)
        fired = sum(fired for fired, _ in results)
        survived, detail = fired - len(losses), losses[0] if losses else detail
        return cls(len(results), fired, survived, len(losses), detail, dict(facts or {}), losses)


def summed(facts: Iterable[Facts]) -> dict[str, int | float]:
    """Facts of several outcomes as those of one: counts added, of measures the largest."""
    total: dict[str, int | float] = {}
    for name, value in (pair for each in facts for pair in each.items()):
        before = total.get(name, 0)
        total[name] = max(before, value) if isinstance(value, float) else before + value
    return total


def in_words(facts: Facts) -> str:
    """Such as "21 worker, 7 monitor"."""
    return ", ".join(f"{value:,} {name}" for name, value in facts.items())
