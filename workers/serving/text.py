"""Exports in words: the table that compares them, and what to do with the files."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import RenderableType

from a3c.evaluation import Returns
from workers.console.drawing import UNKNOWN, Frame, Line, clean, number, plural
from workers.runs.program import command
from workers.serving.verify import BATCHES, Agreement


@dataclass(frozen=True, slots=True)
class Row:
    """One policy of the table; the checkpoint has only returns."""

    name: str
    returns: Returns
    agreement: Agreement | None
    size: int | None  # bytes


def render_trial(env_id: str, checkpoint: str, rows: Sequence[Row], seed: int) -> RenderableType:
    """The table: how the checkpoint and its exports did."""
    agreements = [row.agreement for row in rows if row.agreement]
    values = agreements[0].value_difference is not None
    titles = ["policy", "mean", "std", "min", "max", "agreement", "prob. off", *(["value off"] * values), "file"]
    cells = [[row.name, *_returns(row.returns), *_agreement(row.agreement, values), _size(row.size)] for row in rows]
    head, *body = aligned([titles, *cells])
    title: Line = [(clean(env_id), "bold"), (f"   {clean(checkpoint)}", "dim")]
    return Frame(
        [title, [], [(head, "dim")], *([(row, "")] for row in body), [], *_notes(rows[0].returns, agreements, seed)]
    )


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column flush left, the others flush right."""
    name, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    return ["  ".join([f"{row[0]:<{name}}", *map(str.rjust, row[1:], widths)]) for row in rows]


def render_written(places: Sequence[str]) -> RenderableType:
    """What was written, and what to do with the last file."""
    lines: list[Line] = [[], *([("  written  ", "dim"), (clean(place), "")] for place in places)]
    return Frame([*lines, [], [("  next", "dim")], [(f"  {command('serve', clean(places[-1]))}", "bold")]])


def _returns(returns: Returns) -> list[str]:
    return [number(value) for value in returns.statistics().values()]  # mean, std, min, max


def _agreement(agreement: Agreement | None, values: bool) -> list[str]:
    if agreement is None:
        return [UNKNOWN] * (2 + values)
    differences = [agreement.difference, *([agreement.value_difference or 0.0] * values)]
    return [f"{100 * agreement.same / agreement.observations:.2f} %", *(f"{size:.1e}" for size in differences)]


def _size(size: int | None) -> str:
    return UNKNOWN if size is None else f"{size / 1000:,.1f} kB"


def _notes(returns: Returns, agreements: Sequence[Agreement], seed: int) -> list[Line]:
    batches, count = ", ".join(map(str, BATCHES)), f"{agreements[0].observations:,}"
    notes = [
        f"Returns of {plural(len(returns.returns), 'greedy episode')}; agreement of greedy actions, and the largest",
        f"differences, on {count} observations of greedy, sampled and random play, asked",
        f"in batches of {batches}. Seed {seed}.",
    ]
    if ties := agreements[0].ties:
        notes.append(f"On {plural(ties, 'observation')} the checkpoint's two best actions are as good as equal: either")
        notes.append("is right.")
    return [[(f"  {note}", "dim")] for note in notes]
