"""Wording of a study: its figures, and the names of its arms where there is little room."""

from collections.abc import Callable, Sequence
from math import inf, isfinite, isinf, isnan

from rich.cells import cell_len, set_cell_size

from workers.comparison.results import Comparison, Interval, Run
from workers.console.text import clean

UNKNOWN = "–"  # noqa: RUF001 - the dash of an empty cell
NEVER = "not within the budget"


def number(value: float) -> str:
    """Three figures or all digits before the point: 0.712, 1.53, 17.2, 8,012."""
    if not isfinite(value):
        return UNKNOWN if isnan(value) else NEVER
    digits = 0 if abs(value) >= 100 or value == 0 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}" if abs(value) >= 0.001 or value == 0 else f"{value:.2g}"


def probability(value: float) -> str:
    return UNKNOWN if isnan(value) else f"{value:.2f}"


def percent(share: float) -> str:
    """A share in per cent, small ones with two figures."""
    if isnan(share):
        return UNKNOWN
    if 0 < share < 1e-5:
        return "less than 0.001 %"
    return f"{100 * share:.2g} %" if 0 < share < 0.001 else f"{100 * share:.3g} %"


def ratio(value: float) -> str:
    """Two figures: 0.56, 1.1, 17."""
    if not isfinite(value):
        return number(value)
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def env_steps_or_more(steps: float | None, budget: int) -> str:
    """A number of env steps, or that the budget was not enough."""
    if steps is None or isnan(steps):
        return UNKNOWN
    return f"{steps:,.0f}" if isfinite(steps) else f"> {budget:,}"


def span(interval: Interval, shown: Callable[[float], str] = number) -> str:
    """The interval around a number: "6,900 to 9,800"; "" where there is none."""
    if isnan(interval.low) or isnan(interval.high) or isinf(interval.low):
        return ""
    return f"{shown(interval.low)} {f'to {shown(interval.high)}' if isfinite(interval.high) else 'or more'}"


def estimate(interval: Interval, shown: Callable[[float], str] = number) -> str:
    """A number and its interval: "8,012 (6,900 to 9,800)"."""
    around = span(interval, shown)
    return f"{shown(interval.value)} ({around})" if around else shown(interval.value)


def times(factor: Interval) -> str:
    """A ratio and its interval: "1.5 times (1.1 to 2.0)"; "" where no number can be given."""
    if isfinite(factor.value):
        around = span(factor, ratio)
        return f"{ratio(factor.value)} times{f' ({around})' if around else ''}"
    return f"at least {ratio(factor.low)} times" if isfinite(factor.low) and factor.low > 0 else ""


def inverse(factor: Interval) -> Interval:
    """The same ratio from the other side."""
    value, high, low = ((1 / x if x else inf) for x in (factor.value, factor.low, factor.high))
    return Interval(value, low, high)


def plural(many: int, name: str) -> str:
    return f"{many:,} {name}{'s' * (many != 1)}"


def target_of(comparison: Comparison) -> str:
    """The return to be reached."""
    return "the target" if comparison.target_return is None else f"{comparison.target_return:,.6g}"


def subject(comparison: Comparison) -> str:
    """What is compared, as a title: "async against sync on CartPole-v1"."""
    *others, last = [arm.name for arm in comparison.arms]
    names = f"{', '.join(others)} {'and' if len(others) > 1 else 'against'} {last}" if others else last
    return f"{names if len(names) < 40 else plural(len(comparison.arms), 'setting')} on {comparison.env_id}"


def runs_of(comparison: Comparison, arm: str) -> list[Run]:
    """The runs of one arm, in order of seeds."""
    return [run for run in comparison.runs if run.arm == arm]


def budget_of(comparison: Comparison, arm: str) -> int:
    """Env steps that each run of an arm was given."""
    return max((run.summary.max_env_steps for run in runs_of(comparison, arm)), default=comparison.max_env_steps)


# -- names of arms ----------------------------------------------------------------------------------------------------


def shortened(names: Sequence[str], cells: int) -> list[str]:
    """Different names in at most so many cells each, still different: numbered where a cut makes two the same."""
    whole = [clean(name) for name in names]
    short = [_cut(name, cells) for name in whole]
    return short if len(set(short)) == len(short) else [_cut(f"{n} {name}", cells) for n, name in enumerate(whole, 1)]


def short_names(names: Sequence[str], cells: int) -> Callable[[str], str]:
    """Of each of the names, the one that `shortened` gives it; any other is only cleaned."""
    known = dict(zip(names, shortened(names, cells), strict=True))
    return lambda name: known.get(name, clean(name))


def _cut(name: str, cells: int) -> str:
    return name if cell_len(name) <= cells else set_cell_size(name, cells - 1) + "…"
