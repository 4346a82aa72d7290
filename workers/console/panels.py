"""The live view of a run: each frame is a pure function of a `Status` and the terminal's size."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise, product

from rich.console import RenderableType

from workers.console.drawing import MARGIN, Frame, apart, beside, chart, finite, fitted, flowed, gauge, joined, stacked
from workers.console.text import STYLES, UNKNOWN, Line, clean, duration, fault_texts, mean, number, plural, target
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
    "network": ("█", "red"),
    "other": ("░", "dim"),
}
PARTS = {"returns": "backward", "clip": "backward", "publish": "other"}  # small phases, shown with a larger one
EVENTS = {
    **dict.fromkeys(("verified", "resumed", "restarted"), "green"),
    **dict.fromkeys(("warning", "rolled-back", "interrupted"), "yellow"),
    **dict.fromkeys(("crashed", "hung", "unsaved"), "bold red"),
}
LOSSES = {
    "policy_loss": "policy loss",
    "value_loss": "value loss",
    "entropy": "entropy",
    "gradient_norm": "gradient norm",
    "explained_variance": "explained var",
}
FIGURE_TITLES = f"{'steps/s':>9}{'episodes':>9}{'return':>9}{'staleness':>10}{'CPU':>7}{'memory':>10}"
STATE, LONG_STATE = 8, 11  # cells of a worker's state: where none was restarted, and with the restarts behind it
LEARNING_COLUMN = 23  # cells
RIGHT, GAP = 78, 4  # cells of what stands beside the chart on a wide terminal, and between the two
NODE = 5  # cells more for the node of a worker


def render(status: Status, width: int, height: int) -> RenderableType:
    """The run at one moment, in at most `height` lines of at most `width` cells."""
    if width < 60 or height < 14:
        return Frame([fitted(line, width, pad=False) for line in _small(status, width)[:height]])
    header, inside = _header(status, width - 2), width - 2
    rows, names = height - len(header), tuple(SECTIONS)
    if width >= 150 and height >= 24:  # the chart on the left, the rest beside it
        right = RIGHT + NODE * any(worker.node for worker in status.workers)
        rows, left = min(rows, 28), inside - right - GAP
        body = beside(_returns(status, left, rows), _stack(status, right, rows, names[1:]), left + GAP)
    else:
        body = _stack(status, inside, rows, names)
    return Frame([[(" ", ""), *fitted(line, inside, pad=False)] for line in (header + body)[:height]])


def _small(status: Status, width: int) -> list[Line]:
    """Too small for sections: one figure after the other, the important ones first."""
    latest = status.latest
    figures = [
        [(f"{status.env_steps:,}", "bold"), (" env steps", "dim")],
        figure(_judged(status), f"{mean(latest)} of {target(status.target_return)}"),
        [(f"{number(status.steps_per_second, 0)}/s", "bold")],
        figure("best", mean(status.best_shown)),
        *([figure("evaluated", f"at {latest.env_steps:,}")] if latest else []),
        [(duration(status.elapsed_seconds), "")],
    ]
    faults = "".join(f"  {text}" for text in fault_texts(status.faults)[-1:])
    return [
        *flowed([[(clean(status.env_id), "bold")], [_phase(status)]], width),
        [*_progress(status, width - len(faults), ""), (faults, "yellow")],
        *flowed(figures, width),
    ]


def _stack(status: Status, width: int, rows: int, names: Sequence[str]) -> list[Line]:
    """Sections one below the other, each with the rows that its importance earns it.

    What changes during a run plays no part in that: the sections must not move.
    """
    workers = len(status.workers)
    wishes = {  # the least, a comfortable and the largest number of rows, the most important first
        "returns": (5, 7, 20),
        "workers": (2, min(workers, 8) + 1, workers + 2),
        "time": (2, 2, 2),
        "learning": (3, 3, 3),
        "events": (1, 2, 12),
        "gaps": (0, 1, 4),
    }
    granted = dict.fromkeys(wishes, 0)
    for level, name in product(range(3), (*names, "gaps")):
        more = min(wishes[name][level] - granted[name], rows)
        if more > 0 and granted[name] + more >= wishes[name][0]:
            granted[name] += more
            rows -= more
    spaced = [name for name in ("workers", "events", "time", "learning") if name in names[1:]][: granted["gaps"]]
    lines: list[Line] = []
    for name in filter(granted.get, names):
        lines += [[]] * (name in spaced) + SECTIONS[name](status, width, granted[name])
    return lines


def _header(status: Status, width: int) -> list[Line]:
    setting = f"{status.mode} · {plural(len(status.workers), 'worker')} · seed {status.seed}"
    phase, elapsed = _phase(status), f"  {duration(status.elapsed_seconds)}"
    names: list[Line] = [[(clean(status.env_id), "bold")], [(setting, "")], [(clean(status.run_dir), "dim")]]
    title = joined(names, max(width - len(phase[0] + elapsed) - 2, len(status.env_id)))
    figures: list[Line] = [
        [(f"{status.env_steps:,}", "bold"), (f" of {status.max_env_steps:,} env steps", "dim")],
        [(f"{number(status.steps_per_second, 0)}/s", "bold"), (f" {sparkline(_speeds(status.evaluations))}", "cyan")],
        [(f"{status.updates:,}", ""), (" updates", "dim")],
        [(f"{status.episodes:,}", ""), (" episodes", "dim")],
    ]
    faults: Line = []  # an empty line where there are none, so that nothing ever moves
    if texts := fault_texts(status.faults):
        faults = named("faults", [(texts[len(texts[0]) > width - MARGIN], "yellow")])
    first = apart(title, [phase, (elapsed, "")], width)
    return [first, _progress(status, width, " of the budget"), joined(figures, width), faults]


def _phase(status: Status) -> tuple[str, str]:
    return f"● {status.phase.replace('_', ' ')}", STYLES.get(status.phase, "yellow")


def _progress(status: Status, width: int, unit: str) -> Line:
    share = status.env_steps / max(status.max_env_steps, 1)
    label = f" {100 * share:3.0f} %{unit}"
    return [*gauge(share, width - len(label), STYLES.get(status.phase, "yellow")), (label, "dim")]


def _speeds(evaluations: Sequence[Evaluation]) -> list[float]:
    """Env steps per second between the latest evaluations."""
    pairs = [(before, after) for before, after in pairwise(evaluations) if after.seconds > before.seconds]
    return [(after.env_steps - before.env_steps) / (after.seconds - before.seconds) for before, after in pairs[-8:]]


def _judged(status: Status) -> str:
    """What the returns of evaluations are called, beside the sampled ones of training."""
    return "greedy" if status.eval_actions == "greedy" else "evaluated"


def _returns(status: Status, width: int, rows: int) -> list[Line]:
    """Mean returns as figures, and the evaluation curve against the target."""
    latest, best = status.latest, status.best_shown
    points = sorted((e.env_steps, e.mean) for e in status.evaluations if finite(e.mean) is not None)
    right = max([status.env_steps, 1000, *(steps for steps, _ in points)])
    mark = (best.env_steps, best.mean) if best and (best.env_steps, best.mean) in points else None
    spread, when = (f" ± {number(latest.std)}", f" at {latest.env_steps:,}") if latest else ("", "")
    others = [
        figure("best", mean(best)),
        figure("target", target(status.target_return)),
        figure("sampled", number(status.mean_return)),
    ]
    if latest is not None and latest.critic_explained_variance is not None:  # on held-out episodes
        others.append(figure("critic", f"{latest.critic_explained_variance:.2f} explained"))
    figures = joined([figure(_judged(status), mean(latest) + spread + when), *others], width - MARGIN)
    if figures[-2:] != others[-1]:  # there is no room for all of them
        figures = joined([figure(_judged(status), mean(latest) + when), *others], width - MARGIN)
    curve = chart(points, mark, finite(status.target_return), right, "env steps", width, rows - 1)
    return [named("return", figures), *curve]


def _workers(status: Status, width: int, rows: int) -> list[Line]:
    """A row per worker; the last line sums up the workers for which there is no room."""
    workers, room = status.workers, rows - 1
    nodes = list(dict.fromkeys(worker.node for worker in workers))  # the first is this machine, ""
    state = LONG_STATE if any(worker.restarts for worker in workers) else STATE
    titles = f" {'state':<{state}}{FIGURE_TITLES}{'node' * any(nodes):>{NODE * any(nodes)}}"
    shown = len(workers) if len(workers) <= room else room - 1
    lines = [[*_worker_row(worker, state), (_node(worker, nodes), "")] for worker in workers[:shown]]
    if rest := workers[shown:]:
        states = ", ".join(f"{many:,} {state}" for state, many in Counter(worker.state for worker in rest).items())
        speed = number(sum(worker.steps_per_second for worker in rest), 0)
        lines.append([(f"and {len(rest):,} more: {states}, {speed} env steps/s", "")])
    elif room > len(workers):
        percent = _percent(status.monitor_cpu_percent)
        lines.append([(f"{'monitor':>{MARGIN - 1}}{percent:>{len(titles) - 9}}", "dim")])
    return [named("workers", [(titles, "dim")]), *lines]


def _worker_row(worker: WorkerStatus, state: int) -> Line:
    """A worker's index, glyph, state in so many cells, and figures; a long state takes room from the first figure."""
    glyph, style = STATES.get(worker.state, ("·", ""))
    restarts = f" ×{worker.restarts}" if worker.restarts else ""  # noqa: RUF001 - times, not the letter
    speed = UNKNOWN if worker.state == "restarting" else number(worker.steps_per_second, 0)
    speed = speed.rjust(state + 7 - len(worker.state + restarts))
    memory = UNKNOWN if worker.memory_bytes is None else f"{worker.memory_bytes / 2**20:,.0f} MiB"
    figures = (
        f" {speed}{worker.episodes:>9,}{number(worker.mean_return):>9}"
        f"{number(worker.staleness):>10}{_percent(worker.cpu_percent):>7}{memory:>10}"
    )
    healthy = worker.state not in ("dead", "restarting", "lost")
    row_style = "" if healthy else style
    return [
        (f"{worker.worker_index:>{MARGIN - 1}} ", row_style),
        (glyph, style),
        (f" {worker.state}", "dim" if healthy else style),
        (restarts, "yellow"),
        (figures, row_style),
    ]


def _node(worker: WorkerStatus, nodes: list[str]) -> str:
    """n1 where a worker is on the first of the other nodes."""
    return f"n{nodes.index(worker.node)}".rjust(NODE) if worker.node else ""


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.0f} %"


def _time(status: Status, width: int, rows: int) -> list[Line]:
    """Where the workers' time goes."""
    shares = dict.fromkeys(SHARES if status.time_shares else (), 0.0)
    for name, share in status.time_shares.items():
        shares[PARTS.get(name, name)] += finite(share) or 0.0
    bar = stacked([(share, *SHARES[name]) for name, share in shares.items()], width - MARGIN)
    texts: list[Line] = [[(f"{name} {100 * share:.0f}%", SHARES[name][1])] for name, share in shares.items() if share]
    return [named("time", bar or [(UNKNOWN, "dim")]), named("", joined(texts, width - MARGIN))][:rows]


def _learning(status: Status, width: int, rows: int) -> list[Line]:
    losses, staleness = status.losses, status.staleness
    figures = [(label, number(getattr(losses, name, None), 4)) for name, label in LOSSES.items()]
    figures += [("learning rate", f"{losses.learning_rate:.2e}" if losses else UNKNOWN)]
    figures += [
        (f"staleness {name}", number(getattr(staleness, name, None), digits))
        for name, digits in (("p50", 1), ("p95", 1), ("max", 0))
    ]
    cells = [fitted(figure(f"{name:<13}", value), LEARNING_COLUMN) for name, value in figures]
    columns = min(max((width - MARGIN + 1) // LEARNING_COLUMN, 1), 3)
    lines = [[part for cell in cells[row : row + columns] for part in cell] for row in range(0, 9, 3)]
    return [named("" if row else "learning", line) for row, line in enumerate(lines)][:rows]


def _events(status: Status, width: int, rows: int) -> list[Line]:
    lines: list[Line] = []
    for event in status.events[-rows:]:
        kind = (f"{clean(event.kind):<13} ", EVENTS.get(event.kind, ""))
        line = [(f"{duration(event.seconds):>7}  ", "dim"), kind, (clean(event.message), "dim")]
        lines.append(named("" if lines else "events", line))
    return lines or [named("events", [(UNKNOWN, "dim")])]


def figure(name: str, value: str) -> Line:
    return [(f"{name} ", "dim"), (value, "bold red" if "nan" in value or "inf" in value else "")]


def named(name: str, line: Line) -> Line:
    """A section's first line: its name in the left margin."""
    return [(f"{name:<{MARGIN}}", "bold"), *line]


def sparkline(values: Sequence[float]) -> str:
    highest = max(values, default=0.0)
    return "".join("▁▂▃▄▅▆▇█"[round(7 * max(value, 0.0) / highest)] for value in values) if highest > 0 else ""


SECTIONS: dict[str, Callable[[Status, int, int], list[Line]]] = {  # (status, width, rows) -> at most that many lines
    "returns": _returns,
    "workers": _workers,
    "time": _time,
    "learning": _learning,
    "events": _events,
}
