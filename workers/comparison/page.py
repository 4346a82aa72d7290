"""A study as one page of HTML that needs nothing else: no script, no network, no other file."""

import base64
from collections.abc import Callable, Mapping, Sequence
from html import escape
from math import inf, isfinite, isnan
from pathlib import Path

from workers.comparison.findings import METHOD, findings, limits
from workers.comparison.page_parts import STYLE, Cell, details, items, paragraphs, section, table
from workers.comparison.results import ArmResult, Comparison, Contrast, Interval, Run
from workers.comparison.stored_runs import diverged
from workers.comparison.text import (
    NEVER,
    UNKNOWN,
    number,
    percent,
    plural,
    probability,
    ratio,
    span,
    subject,
    target_of,
)

READING = {
    "learning_curves": "Learning curves. Further left is faster. Bands that overlap say little: they are intervals of "
    "each arm by itself, point by point. Below the curves: when each run was solved, and the median with its interval; "
    "triangles at the right edge are runs that never were.",
    "time_to_target": "Every run by when it was solved. Triangles are runs that never were; they stand at their "
    "budget, but count as infinitely late. Axes are logarithmic where runs differ by more than fifteen times.",
    "solved_share": "How many runs were solved by when, as estimated by Kaplan and Meier. A curve that ends below "
    "100 % belongs to an arm of which some runs were never solved.",
    "throughput": "How fast workers step their environments. More steps per second do not help by themselves: the "
    "figures above say how many steps are needed.",
    "staleness": "How many updates lay between the parameters a gradient was computed on and those it was applied to, "
    "as a share of all pushes. Everything at 0 is what a single worker would do.",
    "advantage_curves": "The magnitude of the advantages over training: the critic's error as the actor feels it.",
    "advantage": "How far returns were from the critic's values, and how much the policy loss varied from update to "
    "update. Both fall and rise with the returns themselves, so arms that learn faster differ for that reason alone.",
}


def render_page(comparison: Comparison, figures: Sequence[Path], p_values: Mapping[str, float]) -> str:
    """The report of a study.

    Args:
        figures: files of `workers.comparison.figures.save_figures`; of these the SVGs are embedded, in this order.
        p_values: of the log-rank tests against the first arm, by the other arm's name.
    """
    drawn = [path for path in figures if path.suffix == ".svg"]
    heading = subject(comparison)
    body = [
        f'<header><h1>{escape(heading)}</h1><p class="lead">{escape(_lead(comparison))}</p></header>',
        section("What the data show", items(findings(comparison))),
        *(_figure(path, comparison) for path in drawn[:1]),
        section("The arms", _arms_table(comparison)),
        _contrasts(comparison, p_values),
        section("More pictures", "".join(_figure(path, comparison) for path in drawn[1:])) if drawn[1:] else "",
        section("What the data do not show", items(limits(comparison))),
        section("Method", paragraphs(METHOD)),
        section("Setting", _setting(comparison)),
        section("Every run", details(plural(len(comparison.runs), "run"), _runs_table(comparison))),
    ]
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(heading)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{chr(10).join(part for part in body if part)}\n</main>\n"
        "</body>\n</html>\n"
    )


def _lead(comparison: Comparison) -> str:
    """The study in one line."""
    goal = "" if comparison.target_return is None else f", up to a mean return of {target_of(comparison)}"
    settings = "each mode at its own best setting" if comparison.tuned else "all other settings the same"
    return (
        f"{plural(len(comparison.runs), 'run')}: {plural(len(comparison.arms), 'arm')}, "
        f"{plural(len(comparison.seeds), 'seed')}{goal}, {settings}."
    )


def _figure(path: Path, comparison: Comparison) -> str:
    """A picture on its card; the SVG keeps its text, and needs no file beside the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    caption = READING.get(path.stem, path.stem.replace("_", " "))
    alt = f"{path.stem.replace('_', ' ').capitalize()} of {', '.join(arm.name for arm in comparison.arms)}"
    return (
        f'<figure><img src="data:image/svg+xml;base64,{data}" alt="{escape(alt)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _arms_table(comparison: Comparison) -> str:
    """What came out, and what the workers did for it."""
    outcome = OUTCOME if comparison.target_return is not None else OUTCOME[-1:]
    tables = []
    for columns in (outcome, WORK):
        rows = [[Cell(arm.name), *(cell(arm) for _, cell in columns)] for arm in comparison.arms]
        tables.append(table(["arm", *(heading for heading, _ in columns)], rows))
    note = "Medians over runs, with 95 % intervals beneath; staleness over all pushes of an arm. "
    more = "Overlapped pushes and torn pulls are upper bounds on those that lost or mixed elements."
    return "".join(tables) + f'<p class="note">{note}{more}</p>'


def _cell(interval: Interval) -> Cell:
    return Cell(number(interval.value), span(interval))


def _share_cell(interval: Interval) -> Cell:
    return Cell(percent(interval.value), span(interval, percent))


def _staleness_cell(arm: ArmResult) -> Cell:
    if isnan(arm.staleness_mean):
        return Cell(UNKNOWN)
    return Cell(f"{arm.staleness_mean:.2f}", f"95 % at most {arm.staleness_p95:.0f}, largest {arm.staleness_max}")


def _lost_cell(arm: ArmResult) -> Cell:
    lost = arm.lost_updates
    return Cell(UNKNOWN) if lost is None else Cell(percent(lost.lost), f"of {lost.updates:,} updates")


Columns = tuple[tuple[str, Callable[[ArmResult], Cell]], ...]
OUTCOME: Columns = (
    ("solved", lambda arm: Cell(f"{arm.solved_runs} of {arm.runs}", span(arm.solved, percent))),
    ("env steps to target", lambda arm: _cell(arm.env_steps.median)),
    ("their IQM", lambda arm: _cell(arm.env_steps.iqm)),
    ("seconds to target", lambda arm: _cell(arm.seconds.median)),
    ("best return", lambda arm: _cell(arm.best_return)),
)
WORK: Columns = (
    ("env steps/s", lambda arm: _cell(arm.steps_per_second)),
    ("mean staleness", _staleness_cell),
    ("overlapped pushes", lambda arm: _share_cell(arm.overlapped_pushes)),
    ("torn pulls", lambda arm: _share_cell(arm.torn_pulls)),
    ("elements overwritten", _lost_cell),
    ("CPU cores used", lambda arm: _cell(arm.cpu_cores)),
)


def _contrasts(comparison: Comparison, p_values: Mapping[str, float]) -> str:
    """Each arm beside the first; nothing where there is no target or no second arm."""
    if comparison.target_return is None or not comparison.contrasts:
        return ""
    headings = [
        "arm",
        "wins by env steps",
        "wins by seconds",
        "fewer env steps, times",
        "speed-up, times",
        "log-rank p",
    ]
    rows = [_contrast_row(contrast, p_values) for contrast in comparison.contrasts]
    reference = escape(comparison.contrasts[0].reference)
    note = (
        f'<p class="note">“Wins” is the probability that a run of the arm beats a run of {reference}: 1 always, '
        "0.5 as often as not, 0 never. The ratios are those of medians, above 1 where the arm needs less. Beneath "
        "each: the 95 % interval, not corrected for several contrasts. The log-rank test compares the curves of "
        "solved runs over env steps as a whole.</p>"
    )
    return section(f"Against {comparison.contrasts[0].reference}", table(headings, rows) + note)


def _contrast_row(contrast: Contrast, p_values: Mapping[str, float]) -> list[Cell]:
    chances = [
        Cell(probability(chance.value), span(chance, probability))
        for chance in (contrast.fewer_env_steps, contrast.sooner)
    ]
    factors = [_factor_cell(factor, contrast) for factor in (contrast.env_steps_ratio, contrast.seconds_ratio)]
    p_value = p_values.get(contrast.arm)
    told = UNKNOWN if p_value is None or isnan(p_value) else "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"
    return [Cell(contrast.arm), *chances, *factors, Cell(told)]


def _factor_cell(factor: Interval, contrast: Contrast) -> Cell:
    """A ratio of medians; where one of these is not within the budget, what is left to say."""
    if isfinite(factor.value) and factor.value > 0:
        return Cell(ratio(factor.value), span(factor, ratio))
    if factor.value == 0:
        return Cell(f"{contrast.arm} {NEVER}", f"at most {ratio(factor.high)}" if 0 < factor.high < inf else "")
    if factor.value == inf:
        return Cell(f"{contrast.reference} {NEVER}", f"at least {ratio(factor.low)}" if 0 < factor.low < inf else "")
    return Cell(UNKNOWN)


def _setting(comparison: Comparison) -> str:
    """What was typed, where it ran, and every option that the arms share."""
    factors = [
        [Cell(name), Cell(", ".join(str(value) for value in values))] for name, values in comparison.factors.items()
    ]
    machine = [[Cell(name), Cell(_plain(value))] for name, value in comparison.machine.items()]
    options = [[Cell(name), Cell(_plain(value))] for name, value in comparison.options.items()]
    facts = [
        *factors,
        [Cell("seeds"), Cell(", ".join(str(seed) for seed in comparison.seeds))],
        [Cell("budget of a run"), Cell(f"{comparison.max_env_steps:,} env steps")],
        *machine,
    ]
    return (
        f"<pre><code>{escape(comparison.command)}</code></pre>"
        + table(["what", "value"], facts, text=True)
        + details("Options that all arms share", table(["option", "value"], options, text=True))
    )


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(part)}" for name, part in value.items())
    return UNKNOWN if value is None else number(value) if isinstance(value, float) and value != value else str(value)


def _runs_table(comparison: Comparison) -> str:
    headings = [
        "arm",
        "seed",
        "status",
        "solved at, env steps",
        "at, seconds",
        "env steps",
        "seconds",
        "env steps/s",
        "best return",
        "mean staleness",
        "run",
        "version",
    ]
    versions = {path: version.name for version in comparison.versions for path in version.runs}
    rows = [[*_run_row(run), Cell(versions.get(run.path, UNKNOWN))] for run in comparison.runs]
    return table(headings, rows)


def _run_row(run: Run) -> list[Cell]:
    summary = run.summary
    solved = summary.status == "solved" and summary.solved_env_steps is not None and summary.solved_seconds is not None
    return [
        Cell(run.arm),
        Cell(str(run.seed)),
        Cell("diverged" if diverged(summary) else summary.status.replace("_", " ")),
        Cell(f"{summary.solved_env_steps:,}" if solved else UNKNOWN),
        Cell(f"{summary.solved_seconds:.3f}" if solved else UNKNOWN),
        Cell(f"{summary.env_steps:,}"),
        Cell(f"{summary.train_seconds:.3f}"),
        Cell(number(summary.steps_per_second)),
        Cell(number(summary.evaluation.mean) if summary.evaluation else UNKNOWN),
        Cell(f"{summary.staleness.mean:.2f}" if summary.staleness else UNKNOWN),
        Cell(run.path),
    ]
