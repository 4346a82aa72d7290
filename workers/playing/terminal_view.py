"""A policy at play, drawn in the terminal: its environment, and beside it what the policy makes of what it sees."""

import re
from collections.abc import Sequence
from math import isfinite

from rich.cells import cell_len
from rich.console import RenderableType
from rich.text import Text

from workers.console.drawing import Frame, apart, beside, finite, fitted, gauge, joined, painted
from workers.console.text import Line, clean, number, plural
from workers.playing.episode import Step
from workers.playing.pictures import half_blocks
from workers.playing.scenes import Scene, scene_of

PANEL = 28  # cells of what stands beside the drawing
BESIDE = 64  # columns from which on there is room for that; else it stands beneath
LARGEST = (110, 30)  # columns and rows of a drawing, beyond which it only takes longer
NAME, LONGEST = 12, 20  # cells of the longest name of an action, and of a part of an observation


def render(step: Step, width: int, height: int) -> RenderableType:
    """The step in at most `height` lines of at most `width` cells."""
    scene, room, rows = scene_of(step.env_id, len(step.observation)), max(width - 2, 0), height - 1
    title: Line = [(step.title, "dim"), (f": {step.ending}" if step.ending else "", "bold")]
    header = apart([(clean(step.env_id), "bold")], title, room)
    figures = {"step": f"{step.index:,}", "return": f"{step.episode_return:,.6g}", "value": number(step.value, 2)}
    if width >= BESIDE and height >= 10:
        panel = [[], *(apart([(name, "dim")], [(value, "bold")], PANEL) for name, value in figures.items()), []]
        panel += _choices(step, scene, PANEL, rows - len(panel))
        columns = room - PANEL - 3
        lines = beside(_drawing(step, scene, columns, rows), panel, columns + 3)
    else:
        choices = _choices(step, scene, room, max((rows - 1) // 3, 1))
        left = rows - 1 - len(choices)
        drawing = _drawing(step, scene, room, left) if left > 1 else []
        line = joined([[(f"{name} ", "dim"), (value, "bold")] for name, value in figures.items()], room, 2)
        lines = [*drawing, line, *choices]
    return Frame([[(" ", ""), *fitted(line, room, pad=False)] for line in [header, *lines][:height]])


def _choices(step: Step, scene: Scene | None, width: int, rows: int) -> list[Line]:
    """A bar for each probability of the policy, mean and spread of each real number; what is done is marked."""
    names = scene.actions if scene is not None else ()
    if len(names) != len(step.parts):
        names = tuple(re.sub("^=", "action ", clean(part.name))[-NAME:] for part in step.parts)
    room, lines = min(max(map(cell_len, names)), NAME), list[Line]()
    for name, part in zip(names, step.parts, strict=True):
        done = part.taken if part.spread is None else part.taken is not None
        mark, colour, style = ("● ", "green", "bold") if done else ("  ", "cyan", "")
        if part.spread is None:
            bar = gauge(finite(part.value) or 0.0, max(width - room - 9, 0), colour)
            about: Line = [*bar, (f" {part.value:5.3f}", style or "dim")]
        else:
            taken = "" if part.taken is None else f"{part.taken:.3g} "
            about = [(taken, style), (f"{part.value:.2g} ± {part.spread:.2g}", "dim")]
        lines.append([(mark, "green"), (f"{name:<{room}} ", style), *about])
    return _cut(lines, rows, "action")


def _drawing(step: Step, scene: Scene | None, columns: int, rows: int) -> list[Line]:
    """The scene; else the environment's own picture; else its observation as bars."""
    columns, rows = min(columns, LARGEST[0]), min(rows, LARGEST[1])
    if scene is not None and all(map(isfinite, step.observation)):
        return painted(scene.draw(step.observation, columns, rows), columns, rows)
    if step.pixels is not None:
        return half_blocks(step.pixels, columns, rows)
    if step.picture:
        return _coloured(step.picture)[:rows]
    width, sizes = min(columns, 60), zip(step.observation, step.extent, strict=True)
    names = step.names or [f"{index:>4}" for index in range(len(step.observation))]
    shown = [(clean(name)[:LONGEST], *own) for name, own in zip(names, sizes, strict=True) if own[0] or not step.names]
    room = max((len(name) for name, *_ in shown), default=0)
    lines = [_component(f"{name:<{room}}", value, extent, width) for name, value, extent in shown]
    return _cut(lines, rows, "component")


def _coloured(picture: str) -> list[Line]:
    """The text that an environment draws, its colours kept and every other code of a terminal removed."""
    lines: list[Line] = []
    for text in Text.from_ansi(picture).split(allow_blank=True):
        parts = text.divide(sorted({edge for span in text.spans for edge in (span.start, span.end)}))
        lines.append([(clean(part.plain), str(part.spans[0].style) if part.spans else "") for part in parts if part])
    return lines


def _component(name: str, value: float, extent: float, width: int) -> Line:
    """One number of the observation as a bar from the middle to its side."""
    half = max((width - len(name) - 12) // 2, 1)
    share = min(max(value / extent, -1.0), 1.0) if isfinite(value) and isfinite(extent) and extent > 0 else 0.0
    filled = "━" * round(abs(share) * half)
    left, right = (filled.rjust(half), " " * half) if share < 0 else (" " * half, filled.ljust(half))
    return [(f"{name} ", "dim"), (left, "yellow"), ("│", "dim"), (right, "cyan"), (f" {value:9.3g}", "")]


def _cut(lines: Sequence[Line], rows: int, name: str) -> list[Line]:
    """The lines that there is room for; the last one says how many are not shown."""
    if len(lines) <= rows:
        return list(lines)
    return [*lines[: max(rows - 1, 0)], [(f"… {plural(len(lines) - rows + 1, name)} more", "dim")]][: max(rows, 0)]
