"""The live view of a study: a pure function of a `StudyStatus` and the terminal's size."""

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite

from rich.cells import cell_len
from rich.console import RenderableType

from workers.comparison.medians import (
    Curve,
    evaluation_curve,
    mean_staleness,
    median_best_return,
    median_curves,
    median_env_steps,
    median_seconds,
    median_steps_per_second,
)
from workers.comparison.names import short_names, shortened
from workers.comparison.progress import ArmProgress, StudyStatus
from workers.comparison.results import Run
from workers.console.drawing import (
    MARGIN,
    UNKNOWN,
    Chart,
    Frame,
    Line,
    Series,
    apart,
    beside,
    cells_of,
    clean,
    duration,
    figure,
    finite,
    fitted,
    flowed,
    gauge,
    joined,
    named,
    number,
    plural,
    round_up,
)
from workers.console.text import STATUS_STYLES

KEYS = (
    string.ascii_uppercase + string.ascii_lowercase + string.digits
)  # an arm's sign in table and chart, for eyes and terminals without colour
STYLES = ("cyan", "magenta", "green", "bright_blue", "red", "bright_yellow", "bright_magenta", "white")
UNSOLVED, RUNNING, PLANNED = ("✗", "red"), ("○", "bold yellow"), ("·", "dim")
FINISHED = ("●", "cyan")  # where there was no target
RAN = {"solved": ("●", "green")}
HEADER, TITLES, NOW = 3, 2, 2  # rows
CHART = 7  # rows of the smallest chart, its title and the gap above it included
TABLE_BESIDE = 92  # cells of the table where the chart stands beside it


def render_study(
    status: StudyStatus, width: int, height: int, curves: Mapping[str, Curve] | None = None
) -> RenderableType:
    """The study at one moment, in at most `height` lines of at most `width` cells.

    Args:
        curves: `median_curves(status.arms)`, from a caller that draws more often than runs finish.
    """
    if width < 60 or height < 14:
        return Frame([fitted(line, width, pad=False) for line in _small(status, width)[:height]])
    curves = median_curves(status.arms) if curves is None else curves
    lines = _header(status, width - 2) + _body(status, width - 2, height - HEADER, curves)
    return Frame([[(" ", ""), *fitted(line, width - 2, pad=False)] for line in lines[:height]])


def clock_words(seconds: float | None) -> str:
    """0:40, 12:05, 1:02:03."""
    if seconds is None or not isfinite(seconds):
        return UNKNOWN
    minutes, rest = divmod(ceil(max(seconds, 0.0)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def env_steps_words(steps: float | None, budget: int) -> str:
    """A number of env steps, or that the budget was not enough."""
    if steps is None or steps != steps:
        return UNKNOWN
    return f"{steps:,.0f}" if isfinite(steps) else f"> {budget:,}"


def _look(index: int) -> tuple[str, str]:
    return KEYS[index % len(KEYS)], STYLES[index % len(STYLES)]


def _phase(status: StudyStatus) -> tuple[str, str]:
    if status.runs_done >= status.runs_planned:
        return "● done", "bold green"
    return ("● running", "cyan") if status.current_arm is not None or status.runs_done else ("● starting", "yellow")


def _header(status: StudyStatus, width: int) -> list[Line]:
    state: Line = [_phase(status), (f"  {duration(status.elapsed_seconds)}", "")]
    title: list[Line] = [
        [(clean(status.env_id), "bold")],
        [(f"{plural(len(status.arms), 'arm')}, {plural(status.runs_planned, 'run')}", "")],
        [(clean(status.study_dir), "dim")],
    ]
    facts = joined(title, max(width - cells_of(state) - 2, len(status.env_id)))
    return [apart(facts, state, width), _progress(status, width), []]


def _progress(status: StudyStatus, width: int) -> Line:
    share = status.runs_done / max(status.runs_planned, 1)
    left = f", about {clock_words(status.remaining_seconds)} left" if share < 1 and status.remaining_seconds else ""
    label: Line = [(f" {status.runs_done:,}", "bold"), (f" of {plural(status.runs_planned, 'run')}", ""), (left, "")]
    return [*gauge(share, max(width - cells_of(label), 0), _phase(status)[1]), *label]


def _body(status: StudyStatus, width: int, rows: int, curves: Mapping[str, Curve]) -> list[Line]:
    """Table, current run and chart, one below the other; many arms push the chart to the side where there is room."""
    arms, rest = len(status.arms), rows - TITLES - NOW - 1
    if width >= 140 and arms > rest - 2 * CHART and rest > CHART:
        left = _facts(status, TABLE_BESIDE, min(arms, rest))
        return beside(left, _chart(status, width - TABLE_BESIDE - 4, min(rows, 36), curves), TABLE_BESIDE + 4)
    shown = min(arms, max(rest - CHART, 3))
    if rest - shown < CHART:
        return _facts(status, width, min(arms, rest))
    return [*_facts(status, width, shown), [], *_chart(status, width, min(rest - shown - 1, 30), curves)]


def _facts(status: StudyStatus, width: int, shown: int) -> list[Line]:
    return [*_table(status, width, max(shown, 1)), [], *_now(status, width)]


# -- the table of arms ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """Figures of the arms, to the right."""

    cells: int  # the gap to the column on the left included
    titles: tuple[str, str]
    words: Callable[[ArmProgress], str]


def _columns(status: StudyStatus) -> list[Column]:
    planned, budget = max((arm.planned for arm in status.arms), default=1), status.max_env_steps
    done = Column(2 * len(str(planned)) + 3, ("", "done"), lambda arm: f"{len(arm.runs)}/{arm.planned}")
    to_target = [
        Column(8, ("", "solved"), lambda arm: _solved_words(arm.runs)),
        Column(max(len(f"{budget:,}") + 4, 11), ("median to", "env steps"), lambda arm: _env_steps_words(arm.runs)),
        Column(9, (" target", "seconds"), lambda arm: number(finite(median_seconds(arm.runs)), 2)),
    ]
    best = [Column(13, ("median best", "return"), lambda arm: number(median_best_return(arm.runs)))]
    return [
        done,
        *(best if status.target_return is None else to_target),
        Column(9, ("median", "steps/s"), lambda arm: number(median_steps_per_second(arm.runs), 0)),
        Column(10, ("mean", "staleness"), lambda arm: number(mean_staleness(arm.runs))),
    ]


def _fitting(status: StudyStatus, width: int) -> list[Column]:
    """As many columns as leave room for the names: without its name, a figure is worth nothing."""
    columns = _columns(status)
    while len(columns) > 3 and _longest(status) > width - sum(column.cells for column in columns) - 10:
        columns.pop()
    return columns


def _longest(status: StudyStatus) -> int:
    return max((cell_len(clean(arm.name)) for arm in status.arms), default=3)


def _table(status: StudyStatus, width: int, shown: int) -> list[Line]:
    """A row per arm; of more arms than fit, the page that holds the current one."""
    columns = _fitting(status, width)
    names, gap, strip = _widths(status, width, columns)
    first = _page(status, shown)
    page = f"{first + 1} to {first + shown} of {len(status.arms)}" if shown < len(status.arms) else ""
    upper, lower = ("".join(_title(column, row, gap) for column in columns) for row in (0, 1))
    titles: list[Line] = [
        [(f"{page:<{names + 2}}{upper}", "dim")],
        [(f"{'arm':<{names + 2}}", "bold"), (f"{lower}  runs", "dim")],
    ]
    short = shortened([arm.name for arm in status.arms], names)
    rows = [
        _row(status, index, fitted([(short[index], "")], names), columns, gap)
        for index in range(first, min(first + shown, len(status.arms)))
    ]
    return titles + [[*row, ("  ", ""), *_strip(status, index, strip)] for index, row in enumerate(rows, first)]


def _title(column: Column, row: int, gap: int) -> str:
    """To the right like the figures, but a title that goes on with the one before it starts right there."""
    title, cells = column.titles[row], column.cells + gap
    return title.ljust(cells) if title.startswith(" ") else title.rjust(cells)


def _page(status: StudyStatus, shown: int) -> int:
    """The first arm to show: pages turn less often than a window that follows the current arm would move."""
    names = [arm.name for arm in status.arms]
    current = names.index(status.current_arm) if status.current_arm in names else 0
    return max(min(current // shown * shown, len(names) - shown), 0)


def _widths(status: StudyStatus, width: int, columns: Sequence[Column]) -> tuple[int, int, int]:
    """Cells of the names, between the columns, and of the strips of runs."""
    rest = width - sum(column.cells for column in columns) - 4
    names = max(min(_longest(status), rest - 6), 4)
    planned = max((arm.planned for arm in status.arms), default=0)
    gap = min(max((rest - names - planned) // len(columns), 0), 4)
    return names, gap, min(max(rest - names - gap * len(columns), 1), planned)


def _row(status: StudyStatus, index: int, name: Line, columns: Sequence[Column], gap: int) -> Line:
    arm, (key, style) = status.arms[index], _look(index)
    if arm.name == status.current_arm:
        name = [(text, "bold") for text, _ in name]
    figures = [(f"{column.words(arm) if arm.runs else UNKNOWN:>{column.cells + gap}}", "") for column in columns[1:]]
    return [(f"{key} ", f"bold {style}"), *name, (f"{columns[0].words(arm):>{columns[0].cells + gap}}", ""), *figures]


def _strip(status: StudyStatus, index: int, cells: int) -> Line:
    """A sign per run, in order of seeds; of more than fit, those around the next."""
    arm = status.arms[index]
    ended = RAN | ({"budget_exhausted": FINISHED} if status.target_return is None else {})
    signs = [ended.get(run.summary.status, UNSOLVED) for run in arm.runs]
    if arm.name == status.current_arm:
        signs.append(RUNNING)
    signs += [PLANNED] * (arm.planned - len(signs))
    first = max(min(len(arm.runs) + 2, len(signs)) - cells, 0)
    return ([("…", "dim"), *signs[first + 1 :]] if first else signs)[:cells]


def _solved_words(runs: Sequence[Run]) -> str:
    return f"{sum(run.summary.solved_env_steps is not None for run in runs):,}"


def _env_steps_words(runs: Sequence[Run]) -> str:
    return env_steps_words(median_env_steps(runs), max(run.summary.max_env_steps for run in runs))


# -- beside and below it ----------------------------------------------------------------------------------------------


def _now(status: StudyStatus, width: int) -> list[Line]:
    """The run that goes on, and what happened last."""
    return [
        named("now", joined(_current(status, (width - MARGIN) // 2), width - MARGIN)),
        named("last", [(clean(status.message) or UNKNOWN, "dim")]),
    ]


def _current(status: StudyStatus, cells: int) -> list[Line]:
    """The run that goes on, its arm's name in at most so many cells."""
    if status.current_arm is None:
        return [[(UNKNOWN, "dim")]]
    name = short_names([arm.name for arm in status.arms], max(cells, 8))(status.current_arm)
    run: Line = [(name, "bold"), (f", seed {status.current_seed}", "")]
    if (current := status.current) is None:
        return [run, [("starting", "yellow")]]
    steps: Line = [(f"{current.env_steps:,}", "bold"), (f" of {current.max_env_steps:,} env steps", "dim")]
    last = current.evaluations[-1].mean if current.evaluations else None
    return [
        run,
        steps,
        [(f"{number(current.steps_per_second, 0)}/s", "bold")],
        figure("greedy", number(last)),
        [(current.phase.replace("_", " "), STATUS_STYLES.get(current.phase, "yellow"))],
    ]


def _chart(status: StudyStatus, width: int, rows: int, curves: Mapping[str, Curve]) -> list[Line]:
    """The arms' learning curves, each ending in its key; the run that goes on lies below them."""
    target = finite(status.target_return)
    legend: list[Line] = [
        [(f"{_look(index)[0]} ", f"bold {_look(index)[1]}"), (clean(arm.name), "")]
        for index, arm in enumerate(status.arms)
    ]
    goal: list[Line] = [] if target is None else [[("╌╌ ", "yellow"), (f"target {target:,.6g}", "")]]
    running = evaluation_curve(status.current.evaluations) if status.current else ()
    series = [Series(running, "dim", running[-1], RUNNING)] if running else []
    for index, arm in enumerate(status.arms):
        if curve := curves.get(arm.name):
            key, style = _look(index)
            series.append(Series(curve, style, curve[-1], (key, f"bold {style}")))
    right = round_up(max([1000.0, *(x for one in series for x, _ in one.points[-1:])]))
    chart = Chart(tuple(series), right, "env steps", target)
    return [named("return", joined(goal + legend, width - MARGIN)), *chart.lines(width, rows - 1)]


def _small(status: StudyStatus, width: int) -> list[Line]:
    """Too small for sections: the facts one after the other, the important ones first."""
    arms: list[Line] = []
    short = short_names([arm.name for arm in status.arms], max(width - 8, 4))
    for arm in status.arms:
        solved: list[Line] = [figure("solved", _solved_words(arm.runs))] if status.target_return is not None else []
        steps: list[Line] = [figure("env steps", _env_steps_words(arm.runs))] if solved and arm.runs else []
        arms += flowed([[(short(arm.name), "bold"), (f" {len(arm.runs)}/{arm.planned}", "")], *solved, *steps], width)
    return [
        *flowed([[(clean(status.env_id), "bold")], [_phase(status)], [(duration(status.elapsed_seconds), "")]], width),
        _progress(status, width),
        *flowed(_current(status, width - 10), width),
        *arms,
    ]
