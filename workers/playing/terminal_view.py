"""A policy at play, drawn in the terminal: its environment, and beside it what the policy makes of what it sees."""

from collections.abc import Sequence
from itertools import groupby
from math import isfinite

from rich.cells import cell_len
from rich.console import RenderableType
from rich.text import Text

from workers.console.drawing import Frame, Line, apart, beside, clean, finite, fitted, gauge, joined, number, plural
from workers.playing.episode import Step
from workers.playing.scenes import Cells, Scene, scene_of

PANEL = 28  # cells of what stands beside the drawing
BESIDE = 64  # columns from which on there is room for that; else it stands beneath
LARGEST = (110, 30)  # columns and rows of a drawing, beyond which it only takes longer
NAME = 12  # cells of the longest name


def render(step: Step, width: int, height: int) -> RenderableType:
    """The step in at most `height` lines of at most `width` cells."""
    scene, room = scene_of(step.env_id, len(step.observation)), max(width - 2, 0)
    view = _beside if width >= BESIDE and height >= 10 else _beneath
    lines = [_header(step, room), *view(step, scene, room, height - 1)]
    return Frame([[(" ", ""), *fitted(line, room, pad=False)] for line in lines[:height]])


def _header(step: Step, width: int) -> Line:
    title: Line = [(step.title, "dim"), (f": {step.ending}" if step.ending else "", "bold")]
    return apart([(clean(step.env_id), "bold")], title, width)


def _beside(step: Step, scene: Scene | None, width: int, rows: int) -> list[Line]:
    """The drawing on the left, the facts on the right."""
    facts = [apart([(name, "dim")], [(value, "bold")], PANEL) for name, value in _facts(step)]
    panel: list[Line] = [[], *facts, [], *_choices(step, scene, PANEL, rows - len(facts) - 2)]
    columns = width - PANEL - 3
    return beside(_drawing(step, scene, columns, rows), panel, columns + 3)


def _beneath(step: Step, scene: Scene | None, width: int, rows: int) -> list[Line]:
    """The drawing, and under it the facts in a line and the choices in as many as there is room for."""
    facts = joined([[(f"{name} ", "dim"), (value, "bold")] for name, value in _facts(step)], width, 2)
    choices = _choices(step, scene, width, max((rows - 1) // 3, 1))
    left = rows - 1 - len(choices)
    drawing = _drawing(step, scene, width, left) if left > 1 else []
    return [*drawing, facts, *choices]


def _facts(step: Step) -> list[tuple[str, str]]:
    earned = f"{step.episode_return:,.6g}"
    return [("step", f"{step.index:,}"), ("return", earned), ("value", number(step.value, 2))]


def _choices(step: Step, scene: Scene | None, width: int, rows: int) -> list[Line]:
    """A bar for the probability of each action; the one that is taken is marked."""
    known = scene.actions if scene is not None else ()
    many = len(step.probabilities)
    names = known if len(known) == many else [f"action {index}" for index in range(many)]
    room = min(max(map(cell_len, names)), NAME)
    lines = [
        _choice(name, probability, index == step.action, room, width)
        for index, (name, probability) in enumerate(zip(names, step.probabilities, strict=True))
    ]
    return _cut(lines, rows, "action")


def _choice(name: str, probability: float, taken: bool, room: int, width: int) -> Line:
    bar = gauge(finite(probability) or 0.0, max(width - room - 9, 0), "green" if taken else "cyan")
    label: Line = [("● " if taken else "  ", "green"), (f"{name:<{room}} ", "bold" if taken else "")]
    return [*label, *bar, (f" {probability:5.3f}", "bold" if taken else "dim")]


def _drawing(step: Step, scene: Scene | None, columns: int, rows: int) -> list[Line]:
    """The scene; else the environment's own picture; else its observation as bars."""
    columns, rows = min(columns, LARGEST[0]), min(rows, LARGEST[1])
    if scene is not None and all(map(isfinite, step.observation)):
        return _painted(scene.draw(step.observation, columns, rows), columns, rows)
    if step.picture:
        return _coloured(step.picture)[:rows]
    width = min(columns, 60)
    lines = [
        _component(index, value, extent, width)
        for index, (value, extent) in enumerate(zip(step.observation, step.extent, strict=True))
    ]
    return _cut(lines, rows, "component")


def _painted(cells: Cells, columns: int, rows: int) -> list[Line]:
    """A drawing as lines."""
    lines: list[Line] = []
    for row in range(rows):
        letters = (cells.get((row, column), (" ", "")) for column in range(columns))
        runs = groupby(letters, key=lambda letter: letter[1])
        lines.append([("".join(text for text, _ in run), style) for style, run in runs])
    return lines


def _coloured(picture: str) -> list[Line]:
    """The text that an environment draws, its colours kept and every other code of a terminal removed."""
    lines: list[Line] = []
    for text in Text.from_ansi(picture).split(allow_blank=True):
        edges = sorted({edge for span in text.spans for edge in (span.start, span.end)})
        lines.append(
            [
                (clean(part.plain), str(part.spans[0].style) if part.spans else "")
                for part in text.divide(edges)
                if part.plain
            ]
        )
    return lines


def _component(index: int, value: float, extent: float, width: int) -> Line:
    """One number of the observation as a bar from the middle to its side."""
    half = max((width - 16) // 2, 1)
    share = min(max(value / extent, -1.0), 1.0) if isfinite(value) and isfinite(extent) and extent > 0 else 0.0
    filled = "━" * round(abs(share) * half)
    left, right = (filled.rjust(half), " " * half) if share < 0 else (" " * half, filled.ljust(half))
    return [(f"{index:>4} ", "dim"), (left, "yellow"), ("│", "dim"), (right, "cyan"), (f" {value:9.3g}", "")]


def _cut(lines: Sequence[Line], rows: int, name: str) -> list[Line]:
    """The lines that there is room for; the last one says how many are not shown."""
    if len(lines) <= rows:
        return list(lines)
    return [*lines[: max(rows - 1, 0)], [(f"… {plural(len(lines) - rows + 1, name)} more", "dim")]][: max(rows, 0)]
