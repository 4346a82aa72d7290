"""What a study has found, as the tables that are printed at its end."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import isinf, isnan, nan

from rich.cells import cell_len
from rich.console import RenderableType

from workers.comparison.results import ArmResult, Comparison, Contrast, Interval
from workers.comparison.stored_runs import version_runs
from workers.comparison.text import budget_of, env_steps_or_more, percent, probability, ratio, shortened
from workers.comparison.verdicts import verdict
from workers.console.drawing import Frame, fitted, flowed
from workers.console.text import UNKNOWN, Line, clean, number, plural

Cell = tuple[str, str, str]  # a figure, its style, and what stands behind it: its interval
WIDE = 110  # cells from which on every figure is printed with its interval
NOTE = "Medians over runs; in brackets 95 % intervals; IQM: the mean of the middle half of the runs."
GAP = 2  # cells between columns


@dataclass(frozen=True, slots=True)
class Column:
    """Figures one below the other, as wide as the widest."""

    titles: tuple[str, str]  # the lines above it
    cells: Sequence[Cell]

    @property
    def _behind(self) -> int:
        return max((len(more) for _, _, more in self.cells), default=0)

    @property
    def width(self) -> int:
        """Cells."""
        figures = max((len(text) for text, _, _ in self.cells), default=0)
        return max(figures + self._behind, *map(len, self.titles))

    def lines(self) -> list[Line]:
        """Titles and figures, all of one width."""
        width, behind = self.width, self._behind
        titles: list[Line] = [[(f"{title:>{width - behind}}".ljust(width), "dim")] for title in self.titles]
        return titles + [
            [(f"{text:>{width - behind}}", style), (f"{more:<{behind}}", "dim")] for text, style, more in self.cells
        ]


Group = Sequence[Column]  # they belong together


def render_comparison(comparison: Comparison, findings: Sequence[str], width: int) -> RenderableType:
    """The whole study: how the arms did, how each compares with the first, and what follows from it."""
    full, wide = [arm.name for arm in comparison.arms], width >= WIDE
    names = shortened(full, max(width // 3, 8))
    lines = [*flowed(_headline(comparison), width, gap=3), *_wrapped(NOTE, width)]
    if len(comparison.versions) > 1:
        told = "; ".join(version_runs(version) for version in comparison.versions)
        lines += _wrapped(f"Runs of {len(comparison.versions)} versions: {clean(told)}.", width)
    lines += tabulated("arm", names, _outcomes(comparison, wide), width)
    lines += tabulated("arm", names, [_speed(comparison, wide), _meetings(comparison, wide)], width)
    if comparison.target_return is not None and comparison.contrasts:
        lines += _contrasts(comparison, names, width)
    if names != full:
        lines += [
            [],
            *(
                line
                for short, name in zip(names, full, strict=True)
                for line in _wrapped(f"{short}: {clean(name)}", width)
            ),
        ]
    lines += [[], *_bullets(findings, width)] if findings else []
    return Frame([fitted(line, width, pad=False) for line in lines])


def _headline(comparison: Comparison) -> list[Line]:
    env_id, done, planned = clean(comparison.env_id), len(comparison.runs), comparison.planned_runs
    runs = plural(done, "run") if done == planned else f"{done:,} of {plural(planned, 'run')}"
    target = "" if comparison.target_return is None else f", target {comparison.target_return:,.6g}"
    facts = f"{plural(len(comparison.arms), 'arm')} x {plural(len(comparison.seeds), 'seed')}, {runs}{target}"
    return [[(env_id, "bold")], [(f"{facts}, budget {comparison.max_env_steps:,} env steps", "")]]


def tabulated(title: str, names: Sequence[str], groups: Sequence[Group], width: int) -> list[Line]:
    """A table with a row per name, every column of it: those that find no room go on below."""
    cells = min(max(map(cell_len, [title, *names])), max(width // 3, 8))
    heading: list[Line] = [[], [(title, "bold")], *([(name, "")] for name in names)]
    lines: list[Line] = []
    for columns in _blocks(groups, width - cells):
        rows = [fitted(line, cells) for line in heading]
        for column in columns:
            rows = [[*row, (" " * GAP, ""), *part] for row, part in zip(rows, column.lines(), strict=True)]
        lines += [[], *(rows if any(column.titles[0] for column in columns) else rows[1:])]
    return lines


def _blocks(groups: Sequence[Group], room: int) -> list[list[Column]]:
    """The columns that stand side by side; a group stays together if it can."""
    blocks: list[list[Column]] = [[]]

    def make_room(columns: Group) -> None:
        if blocks[-1] and sum(GAP + column.width for column in [*blocks[-1], *columns]) > room:
            blocks.append([])

    for group in groups:
        make_room(group)
        for column in group:
            make_room([column])
            blocks[-1].append(column)
    return blocks


def _wrapped(text: str, width: int) -> list[Line]:
    return [[(part, "dim")] for part in textwrap.wrap(text, max(width, 10))]


def _bullets(findings: Sequence[str], width: int) -> list[Line]:
    lines: list[Line] = []
    for finding in findings:
        first, *others = textwrap.wrap(clean(finding), max(min(width, 120) - 2, 10)) or [""]
        lines += [[("• ", "bold cyan"), (first, "")], *([("  ", ""), (text, "")] for text in others)]
    return lines


# -- the arms ---------------------------------------------------------------------------------------------------------


def _outcomes(comparison: Comparison, wide: bool) -> list[Group]:
    """Whether and when the arms got to the target; without one, how far they got."""
    arms = comparison.arms
    if comparison.target_return is None:
        runs = Column(("", "runs"), [(f"{arm.runs:,}", "", "") for arm in arms])
        return [[runs, Column(("best return", "median"), [cell(arm.best_return, number) for arm in arms])]]
    steps = [partial(env_steps_or_more, budget=budget_of(comparison, arm.name)) for arm in arms]
    solved = Column(("", "solved"), [_solved(arm, wide) for arm in arms])
    env_steps = [
        Column(
            ("env steps to target", "median"),
            [cell(a.env_steps.median, told) for a, told in zip(arms, steps, strict=True)],
        ),
        Column(("", "IQM"), [cell(a.env_steps.iqm, told, wide) for a, told in zip(arms, steps, strict=True)]),
    ]
    seconds = [
        Column(("seconds to target", "median"), [cell(arm.seconds.median, seconds_words) for arm in arms]),
        Column(("", "IQM"), [cell(arm.seconds.iqm, seconds_words, wide) for arm in arms]),
    ]
    return [[solved, *env_steps], seconds]


def _solved(arm: ArmResult, wide: bool) -> Cell:
    style = "green" if arm.solved_runs == arm.runs else "red" if arm.solved_runs == 0 else "yellow"
    return f"{arm.solved_runs} of {arm.runs}", style, around(arm.solved, share_words) if wide else ""


def _speed(comparison: Comparison, wide: bool) -> Group:
    """What the arms made of the machine, and how old their gradients were."""
    arms = comparison.arms
    return [
        Column(("", "env steps/s"), [cell(arm.steps_per_second, partial(number, digits=0), wide) for arm in arms]),
        Column(("CPU", "cores"), [cell(arm.cpu_cores, partial(number, digits=2), wide) for arm in arms]),
        Column(("staleness", "mean"), [cell(exact(arm.staleness_mean), number) for arm in arms]),
        Column(("", "p95"), [cell(exact(arm.staleness_p95), number) for arm in arms]),
        Column(("", "max"), [(f"{arm.staleness_max:,}", "", "") for arm in arms]),
    ]


def _meetings(comparison: Comparison, wide: bool) -> Group:
    """How often workers met in the shared parameters, and what that cost."""
    arms = comparison.arms
    columns = [
        Column(("overlapped", "pushes"), [cell(arm.overlapped_pushes, share_words, wide) for arm in arms]),
        Column(("torn", "pulls"), [cell(arm.torn_pulls, share_words, wide) for arm in arms]),
    ]
    lost = [exact(arm.lost_updates.lost if arm.lost_updates else nan) for arm in arms]
    measured = any(arm.lost_updates for arm in arms)
    return [*columns, *([Column(("lost", "elements"), [cell(share, share_words) for share in lost])] * measured)]


# -- the contrasts ----------------------------------------------------------------------------------------------------


def _contrasts(comparison: Comparison, names: Sequence[str], width: int) -> list[Line]:
    """Each arm beside the first; bold where the data tell the two apart."""
    contrasts, reference = comparison.contrasts, clean(comparison.contrasts[0].reference)
    known = dict(zip([arm.name for arm in comparison.arms], names, strict=True))
    runs = {arm.name: arm.runs for arm in comparison.arms}

    def chance(contrast: Contrast, interval: Interval) -> Cell:
        told = verdict(interval, runs[contrast.arm], runs[contrast.reference])
        return probability(interval.value), VERDICTS[told], around(interval, probability)

    env_steps = [
        Column(("fewer env steps", "probability"), [chance(one, one.fewer_env_steps) for one in contrasts]),
        Column(("", "ratio"), [factor(one.env_steps_ratio) for one in contrasts]),
    ]
    seconds = [
        Column(("sooner", "probability"), [chance(one, one.sooner) for one in contrasts]),
        Column(("", "speed-up"), [factor(one.seconds_ratio) for one in contrasts]),
    ]
    note = f"Above 0.5 and above 1 x: better than {reference}. Bold: the runs tell the two apart."
    (title,) = shortened([f"vs {reference}"], max(width // 3, 8))
    lines = tabulated(title, [known[one.arm] for one in contrasts], [env_steps, seconds], width)
    return [*lines, *_wrapped(note, width)]


VERDICTS = {1: "bold green", 0: "", -1: "bold red"}


# -- figures ----------------------------------------------------------------------------------------------------------


def cell(interval: Interval, words: Callable[[float], str], whole: bool = True) -> Cell:
    """A figure and, where wanted, its 95 % interval."""
    return words(interval.value), "", around(interval, words).replace("not reached", UNKNOWN) if whole else ""


def around(interval: Interval, words: Callable[[float], str]) -> str:
    """The interval in brackets; nothing where it is not known, or as infinite as the figure itself."""
    low, high = interval.low, interval.high
    if isnan(interval.value) or isnan(low) or isnan(high) or isinf(low):
        return ""
    return f" [{words(low)}, {words(high)}]"


def exact(value: float) -> Interval:
    """A figure that has no interval: a count of everything."""
    return Interval(value, nan, nan)


def seconds_words(value: float) -> str:
    return UNKNOWN if isnan(value) else "not reached" if isinf(value) else number(value, 2 if value < 100 else 0)


def share_words(value: float) -> str:
    return f"{100 * value:.1f} %" if value >= 0.001 or value == 0 else percent(value).replace("less than", "<")


def factor(interval: Interval) -> Cell:
    """A ratio: infinite where only the reference, 0 where only the arm never got there."""
    value = interval.value
    if isnan(value) or isinf(value) or value == 0:
        return UNKNOWN if isnan(value) else "> 1 x" if value else "< 1 x", "", ""
    bounds = (UNKNOWN if isinf(end) else ratio(end) if end else "0" for end in (interval.low, interval.high))
    known = not isnan(interval.low) and not isnan(interval.high)
    return f"{ratio(value)} x", "", f" [{', '.join(bounds)}]" if known else ""
