"""The live view of a run: a pure function of a `Status` and the terminal's size."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil

from rich.console import RenderableType

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
    count,
    duration,
    figure,
    finite,
    fitted,
    flowed,
    gauge,
    in_columns,
    joined,
    named,
    number,
    plural,
    round_up,
    sparkline,
    stacked,
)
from workers.console.text import STATUS_STYLES, age_words, best_shown, fault_words, target_words
from workers.runs.records import Evaluation, Status, WorkerStatus

STATES = {
    "running": ("●", "green"),
    "starting": ("○", "yellow"),
    "restarting": ("↻", "bold yellow"),
    "stopped": ("■", "dim"),
    "dead": ("✗", "bold red"),
}
SHARES = {  # neighbours differ in shade too, for eyes and terminals without colour
    "env": ("█", "cyan"),
    "forward": ("▓", "blue"),
    "sampling": ("▒", "cyan"),
    "backward": ("▓", "magenta"),
    "push": ("█", "yellow"),
    "pull": ("▓", "green"),
    "idle": ("▒", "red"),
    "other": ("░", "dim"),
}
PARTS = {"returns": "backward", "clip": "backward", "publish": "other"}  # small phases, shown with a larger one
EVENTS = {
    **dict.fromkeys(("verified", "resumed", "restarted"), "green"),
    **dict.fromkeys(("warning", "rolled-back", "interrupted"), "yellow"),
    **dict.fromkeys(("crashed", "hung", "unsaved"), "bold red"),
}
FIGURE_TITLES = f"{'steps/s':>9}{'episodes':>9}{'return':>9}{'staleness':>10}{'CPU':>7}{'memory':>10}"
STATE, LONG_STATE = 8, 11  # cells of a worker's state: where none was restarted, and with the restarts behind it
WORKER_COLUMN = 4 + 2 + LONG_STATE + len(FIGURE_TITLES)  # cells of an index, a glyph, a state and the figures
GRID_COLUMN = 20
LEARNING_COLUMN = 23


def render(status: Status, width: int, height: int) -> RenderableType:
    """The run at one moment, in at most `height` lines of at most `width` cells."""
    if width < 60 or height < 14:
        return Frame([fitted(line, width, pad=False) for line in _small(status, width)[:height]])
    view = _wide if width >= 150 and height >= 24 else _tall
    lines = view(status, width - 2, height)[:height]
    return Frame([[(" ", ""), *fitted(line, width - 2, pad=False)] for line in lines])


def _small(status: Status, width: int) -> list[Line]:
    """Too small for sections: the facts one after the other, the important ones first."""
    last, best = status.evaluations[-1:], best_shown(status)
    running = sum(worker.state == "running" for worker in status.workers)
    facts = [
        [(f"{status.env_steps:,}", "bold"), (" env steps", "dim")],
        figure("greedy", f"{number(last[0].mean if last else None)} of {target_words(status)}"),
        [(f"{number(status.steps_per_second, 0)}/s", "bold")],
        figure("sampled", number(status.mean_return)),
        figure("best", number(best.mean if best else None)),
        *([figure("evaluated", age_words(last[0]))] if last else []),
        figure("running", f"{running} of {len(status.workers)}"),
        [(duration(status.elapsed_seconds), "")],
    ]
    faults: Line = [(f"  {words}", "yellow") for words in fault_words(status.faults)[-1:]]
    events: list[Line] = [[(clean(event.message), "dim")] for event in status.events[-2:]]
    return [
        *flowed([[(clean(status.env_id), "bold")], [_phase(status)]], width),
        [*_progress(status, width - cells_of(faults), ""), *faults],
        *flowed(facts, width),
        *events,
    ]


def _tall(status: Status, width: int, height: int) -> list[Line]:
    header = _header(status, width)
    return header + _stack(status, width, height - len(header), tuple(SECTIONS))


def _wide(status: Status, width: int, height: int) -> list[Line]:
    """The chart on the left, the facts on the right; many workers get the whole width beneath."""
    header, right, gap = _header(status, width), 78, 4
    rows, facts, beneath = height - len(header), tuple(SECTIONS)[1:], list[Line]()
    if len(status.workers) > 16:
        wanted = ceil(len(status.workers) / (width // WORKER_COLUMN)) + 1
        facts, beneath = facts[1:], [[], *_workers(status, width, min(wanted, rows - 11))]
    rows = min(rows - len(beneath), 28)
    left = width - right - gap
    return header + beside(_returns(status, left, rows), _stack(status, right, rows, facts), left + gap) + beneath


def _stack(status: Status, width: int, rows: int, names: Sequence[str]) -> list[Line]:
    """Sections one below the other, each with the rows that its importance earns it."""
    granted = _grant(_wishes(len(status.workers), names), rows)
    spaced = [name for name in ("workers", "events", "time", "learning") if name in names[1:]][: granted["gaps"]]
    lines: list[Line] = []
    for name in names:
        if granted[name]:
            lines += [[]] * (name in spaced) + SECTIONS[name](status, width, granted[name])
    return lines


def _wishes(workers: int, names: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """The least, a comfortable and the largest number of rows of each section, the most important first.

    What changes while a run goes on plays no part here: the sections must not move.
    """
    wishes = {
        "returns": (5, 7, 20),
        "workers": (2, min(workers, 8) + 1, workers + 2),
        "time": (2, 2, 2),
        "learning": (3, 3, 3),
        "events": (1, 2, 12),
    }
    return {name: wish for name, wish in wishes.items() if name in names} | {"gaps": (0, 1, 4)}


def _grant(wishes: dict[str, tuple[int, int, int]], rows: int) -> dict[str, int]:
    """Rows per section: first the least for each, then the comfortable, then the largest number."""
    granted = dict.fromkeys(wishes, 0)
    for level in range(3):
        for name, wish in wishes.items():
            more = min(wish[level] - granted[name], rows)
            if more > 0 and granted[name] + more >= wish[0]:
                granted[name] += more
                rows -= more
    return granted


def _header(status: Status, width: int) -> list[Line]:
    setting = f"{status.mode} · {plural(len(status.workers), 'worker')} · seed {status.seed}"
    state: Line = [_phase(status), (f"  {duration(status.elapsed_seconds)}", "")]
    names: list[Line] = [[(clean(status.env_id), "bold")], [(setting, "")], [(clean(status.run_dir), "dim")]]
    title = joined(names, max(width - cells_of(state) - 2, len(status.env_id)))
    facts: list[Line] = [
        [(f"{status.env_steps:,}", "bold"), (f" of {status.max_env_steps:,} env steps", "dim")],
        [(f"{number(status.steps_per_second, 0)}/s", "bold"), (f" {sparkline(_speeds(status.evaluations))}", "cyan")],
        [(f"{status.updates:,}", ""), (" updates", "dim")],
        [(f"{status.episodes:,}", ""), (" episodes", "dim")],
    ]
    progress = _progress(status, width, " of the budget")
    return [apart(title, state, width), progress, joined(facts, width), _faults(status, width)]


def _faults(status: Status, width: int) -> Line:
    """What was survived, in the fullest words that fit; an empty line until then, so that nothing ever moves."""
    choices = fault_words(status.faults)
    fitting = (words for words in choices if len(words) <= width - MARGIN)
    return named("faults", [(next(fitting, choices[-1]), "yellow")]) if choices else []


def _phase(status: Status) -> tuple[str, str]:
    return f"● {status.phase.replace('_', ' ')}", STATUS_STYLES.get(status.phase, "yellow")


def _progress(status: Status, width: int, unit: str) -> Line:
    share = status.env_steps / max(status.max_env_steps, 1)
    label = f" {100 * share:3.0f} %{unit}"
    return [*gauge(share, width - len(label), STATUS_STYLES.get(status.phase, "yellow")), (label, "dim")]


def _speeds(evaluations: Sequence[Evaluation]) -> list[float]:
    """Env steps per second between the latest evaluations."""
    pairs = [(before, after) for before, after in pairwise(evaluations) if after.seconds > before.seconds]
    return [(after.env_steps - before.env_steps) / (after.seconds - before.seconds) for before, after in pairs[-8:]]


def _returns(status: Status, width: int, rows: int) -> list[Line]:
    """Mean returns in words, and the evaluation curve against the target."""
    best = best_shown(status)
    points = sorted((e.env_steps, e.mean) for e in status.evaluations if finite(e.mean) is not None)
    right = round_up(max([status.env_steps, 1000, *(steps for steps, _ in points)]))
    mark = (best.env_steps, best.mean) if best and (best.env_steps, best.mean) in points else None
    chart = Chart((Series(tuple(points), mark=mark),), right, "env steps", finite(status.target_return))
    return [named("return", _return_facts(status, width - MARGIN)), *chart.lines(width, rows - 1)]


def _return_facts(status: Status, width: int) -> Line:
    """The mean returns, in the fullest words that fit."""
    last, best = status.evaluations[-1:], best_shown(status)
    mean, spread = (number(last[0].mean), f" ± {number(last[0].std)}") if last else (UNKNOWN, "")
    age = f" {age_words(last[0])}" if last else ""
    others = [
        figure("best", number(best.mean if best else None)),
        figure("target", target_words(status)),
        figure("sampled", number(status.mean_return)),
    ]
    for greedy, gap in ((mean + spread + age, 3), (mean + spread + age, 2), (mean + age, 2)):
        line = joined([figure("greedy", greedy), *others], width, gap)
        if line[-2:] == others[-1]:  # so that all of them are there
            break
    return line


def _workers(status: Status, width: int, rows: int) -> list[Line]:
    """A row per worker, or several columns of rows, or a grid of cells whose last line sums up the rest."""
    workers, room = status.workers, rows - 1
    if len(workers) > room * max(width // WORKER_COLUMN, 1):
        return _worker_grid(workers, width, room)
    state = LONG_STATE if any(worker.restarts for worker in workers) else STATE
    titles = f"{'state':<{state}}{FIGURE_TITLES}"
    if len(workers) > room:
        columns = ceil(len(workers) / room)
        heads = fitted([(f"{'#':>3}   {titles}", "dim")], WORKER_COLUMN) * columns
        return [heads, *in_columns([_worker_row(worker, 4, state) for worker in workers], columns, WORKER_COLUMN)]
    lines = [_worker_row(worker, MARGIN - 1, state) for worker in workers]
    if room > len(workers):
        monitor = f"{'monitor':>{MARGIN - 1}}"
        lines.append([(f"{monitor}{_percent(status.monitor_cpu_percent):>{len(titles) - 8}}", "dim")])
    return [named("workers", [(f" {titles}", "dim")]), *lines]


def _worker_row(worker: WorkerStatus, indent: int, state: int) -> Line:
    """A worker's index, glyph, state in so many cells, and figures; a long state takes room from the first figure."""
    glyph, style = STATES.get(worker.state, ("·", ""))
    restarts = f" ×{worker.restarts}" if worker.restarts else ""  # noqa: RUF001 - times, not the letter
    speed = UNKNOWN if worker.state == "restarting" else number(worker.steps_per_second, 0)  # nobody is there to step
    speed = speed.rjust(state + 7 - len(worker.state + restarts))
    memory = UNKNOWN if worker.memory_bytes is None else f"{worker.memory_bytes / 2**20:,.0f} MiB"
    figures = (
        f" {speed}{worker.episodes:>9,}{number(worker.mean_return):>9}"
        f"{number(worker.staleness):>10}{_percent(worker.cpu_percent):>7}{memory:>10}"
    )
    healthy = worker.state not in ("dead", "restarting")
    row_style = "" if healthy else style
    return [
        (f"{worker.worker_index:>{indent}} ", row_style),
        (glyph, style),
        (f" {worker.state}", "dim" if healthy else style),
        (restarts, "yellow"),
        (figures, row_style),
    ]


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.0f} %"


def _worker_grid(workers: Sequence[WorkerStatus], width: int, room: int) -> list[Line]:
    columns = (width + 2) // GRID_COLUMN
    shown = len(workers) if len(workers) <= columns * room else columns * (room - 1)
    cells: list[Line] = []
    for worker in workers[:shown]:
        glyph, style = STATES.get(worker.state, ("·", ""))
        speed = worker.steps_per_second
        rate = number(speed, 0) if speed < 1e5 else f"{speed / 1000:,.0f}k"
        cells.append(
            [(f"{worker.worker_index:>3} ", ""), (glyph, style), (f"{rate:>6}{number(worker.mean_return):>7}", "")]
        )
    lines = in_columns(cells, columns, GRID_COLUMN) if cells else []
    if rest := workers[shown:]:
        states = ", ".join(f"{many:,} {state}" for state, many in Counter(worker.state for worker in rest).items())
        speed = sum(worker.steps_per_second for worker in rest)
        words = f"and {len(rest):,} more" if shown else f"{len(rest):,} workers"
        lines.append([(f"{words}: {states}, {number(speed, 0)} env steps/s", "")])
    return [named("workers", [("index, state, env steps/s, mean return", "dim")]), *lines]


def _time(status: Status, width: int, rows: int) -> list[Line]:
    """Where the workers' time goes."""
    shares = dict.fromkeys(SHARES if status.time_shares else (), 0.0)
    for name, share in status.time_shares.items():
        shares[PARTS.get(name, name)] += finite(share) or 0.0
    bar = stacked([(share, *SHARES[name]) for name, share in shares.items()], width - MARGIN)
    facts: list[Line] = [[(f"{name} {100 * share:.0f}%", SHARES[name][1])] for name, share in shares.items() if share]
    return [named("time", bar or [(UNKNOWN, "dim")]), [(" " * MARGIN, ""), *joined(facts, width - MARGIN, gap=2)]][
        :rows
    ]


def _learning(status: Status, width: int, rows: int) -> list[Line]:
    losses = status.losses
    cells = [
        ("policy loss", number(losses.policy_loss, 4) if losses else UNKNOWN),
        ("value loss", number(losses.value_loss, 4) if losses else UNKNOWN),
        ("entropy", number(losses.entropy, 4) if losses else UNKNOWN),
        ("gradient norm", number(losses.gradient_norm, 4) if losses else UNKNOWN),
        ("explained var", number(losses.explained_variance, 4) if losses else UNKNOWN),
        ("learning rate", f"{losses.learning_rate:.2e}" if losses else UNKNOWN),
        ("staleness p50", number(status.staleness_p50)),
        ("staleness p95", number(status.staleness_p95)),
        ("staleness max", count(status.staleness_max)),
    ]
    figures = [figure(f"{name:<13}", value) for name, value in cells]
    columns = min(max((width - MARGIN + 1) // LEARNING_COLUMN, 1), 3)
    first, *others = [
        [part for cell in figures[row : row + columns] for part in fitted(cell, LEARNING_COLUMN)]
        for row in range(0, 9, 3)
    ]
    return [named("learning", first), *([(" " * MARGIN, ""), *line] for line in others)][:rows]


def _events(status: Status, width: int, rows: int) -> list[Line]:
    latest = status.events[-rows:]
    lines: list[Line] = [
        [
            (f"{'' if row else 'events':<{MARGIN}}", "bold"),
            (f"{duration(event.seconds):>7}  ", "dim"),
            (f"{clean(event.kind):<13} ", EVENTS.get(event.kind, "")),
            (clean(event.message), "dim"),
        ]
        for row, event in enumerate(latest)
    ]
    return lines or [named("events", [(UNKNOWN, "dim")])]


SECTIONS: dict[str, Callable[[Status, int, int], list[Line]]] = {  # (status, width, rows) -> at most that many lines
    "returns": _returns,
    "workers": _workers,
    "time": _time,
    "learning": _learning,
    "events": _events,
}
