"""What a text console can draw: lines of cells, gauges, and curves made of braille dots.

A line is a list of (text, style) pairs, of a width known from the start: rich's tables and panels measure and wrap,
which costs several times as much per frame.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise, zip_longest
from math import floor, isfinite, log10
from operator import itemgetter

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment

from workers.console.text import Line, to_ascii

MARGIN = 10  # cells of the column that holds the sections' names and the chart's labels
BRAILLE = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # the bit of each dot, by column and row
Cells = dict[tuple[int, int], tuple[str, str]]  # by (row, column): one cell's text and style


@dataclass(frozen=True, slots=True)
class Frame:
    """Finished lines: never wrapped, and in plain ASCII on a console that knows no more."""

    lines: Sequence[Line]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for line in self.lines:
            for text, style in line:
                yield Segment(to_ascii(text) if options.ascii_only else text, console.get_style(style))
            yield Segment.line()


@dataclass(frozen=True, slots=True)
class Cropped:
    """A renderable in at most so many lines of so many cells, in plain ASCII on a console that knows no more."""

    block: RenderableType
    width: int
    height: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        inside = options.update(width=self.width, no_wrap=True, overflow="ellipsis")
        for line in console.render_lines(self.block, inside, pad=False)[: self.height]:
            yield from (Segment(to_ascii(text) if options.ascii_only else text, style) for text, style, _ in line)
            yield Segment.line()


def finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def cells_of(line: Line) -> int:
    return sum(cell_len(text) for text, _ in line)


def fitted(line: Line, width: int, *, pad: bool = True) -> Line:
    """The line cut at, and filled up to, a width."""
    result: Line = []
    for text, style in line:
        cells = cell_len(text)
        result.append((text if cells <= width else set_cell_size(text, width), style))
        width -= min(cells, width)
    return [*result, (" " * width, "")] if pad and width else result


def apart(left: Line, right: Line, width: int) -> Line:
    """One text at either edge; the right one stays whole."""
    return [*fitted(left, max(width - cells_of(right) - 2, 0)), ("  ", ""), *right]


def flowed(parts: Sequence[Line], width: int, gap: int = 2) -> list[Line]:
    """The parts in order, a new line wherever the next does not fit."""
    lines: list[Line] = []
    for part in parts:
        if lines and cells_of(lines[-1]) + gap + cells_of(part) <= width:
            lines[-1] = [*lines[-1], (" " * gap, ""), *part]
        else:
            lines.append(part)
    return lines


def joined(parts: Sequence[Line], width: int, gap: int = 2) -> Line:
    """The parts in order, up to the first that does not fit."""
    first = next(iter(flowed(parts, width, gap)), [])
    return first if cells_of(first) <= width else []


def beside(left: Sequence[Line], right: Sequence[Line], width: int) -> list[Line]:
    """Two stacks of lines next to each other; the right one starts at `width`."""
    return [[*fitted(one, width), *other] for one, other in zip_longest(left, right, fillvalue=list[tuple[str, str]]())]


def gauge(share: float, cells: int, style: str) -> Line:
    full = floor(min(max(share, 0.0), 1.0) * cells)
    tip = "╸" * (0 < full < cells)
    return [("━" * (full - len(tip)) + tip, style), ("─" * (cells - full), "dim")]


def stacked(shares: Sequence[tuple[float, str, str]], cells: int) -> Line:
    """A bar of (share, glyph, style) parts; what the shares leave of 1 stays empty."""
    ends = [round(min(total, 1.0) * cells) for total in accumulate((share for share, _, _ in shares), initial=0.0)]
    return [(glyph * (b - a), style) for (_, glyph, style), (a, b) in zip(shares, pairwise(ends), strict=True)]


def painted(cells: Cells, columns: int, rows: int) -> list[Line]:
    """Lines of single cells."""
    lines: list[Line] = []
    for row in range(rows):
        runs = groupby((cells.get((row, column), (" ", "")) for column in range(columns)), key=itemgetter(1))
        lines.append([("".join(text for text, _ in run), style) for style, run in runs])
    return lines


def chart(
    points: Sequence[tuple[float, float]],
    mark: tuple[float, float] | None,
    goal: float | None,
    right: float,
    unit: str,
    width: int,
    rows: int,
) -> list[Line]:
    """A curve from x = 0 to about `right` with a sign at one of its points, a dashed line at `goal`, and its axes."""
    columns, rows, right = width - MARGIN - 1, rows - 1, round_up(right)
    low, high = round_range([y for _, y in points] + ([] if goal is None else [goal]))

    def dot(x: float, y: float) -> tuple[int, int]:  # the screen counts its rows from the top
        return round(x / right * (2 * columns - 1)), round((high - y) / (high - low) * (4 * rows - 1))

    labels = {0: f"{high:,.6g}"}
    cells: Cells = {}
    if goal is not None:
        row = dot(0, goal)[1] // 4
        labels[row] = f"{goal:,.6g}"
        cells |= {(row, column): ("╌", "yellow") for column in range(columns)}
    cells |= overlaid([([dot(*point) for point in points], "cyan")])
    if mark is not None:
        x, y = dot(*mark)
        cells[y // 4, x // 2] = ("◆", "bold green")
    cells |= {} if points else {(rows // 2, 2 + i): (letter, "dim") for i, letter in enumerate("no curve yet")}
    lines = [
        [(f"{labels.get(row, ''):>{MARGIN - 1}} {'┤' if row in labels else '│'}", "dim"), *line]
        for row, line in enumerate(painted(cells, columns, rows))
    ]
    end = f" {right:,.0f} {unit}"
    return [*lines, [(f"{low:>{MARGIN - 1},.6g} └{'─' * (columns - len(end))}{end}", "dim")]]


def round_up(value: float) -> float:
    """The next round number, for the end of an axis."""
    scale = 10.0 ** floor(log10(value))
    return next(step * scale for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 20) if step * scale >= value)


def round_range(values: Sequence[float]) -> tuple[float, float]:
    """Round numbers around the values and zero, never the same."""
    low, high = min([0.0, *values]), max([0.0, *values])
    return (-round_up(-low) if low < 0 else 0.0), (round_up(high) if high > 0 else float(low == 0))


def braille(path: Sequence[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """The line through dots (x, y) as braille bits per cell (row, column)."""
    cells: dict[tuple[int, int], int] = {}
    for (x0, y0), (x1, y1) in pairwise([*path[:1], *path]):
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for step in range(steps + 1):
            x, y = round(x0 + (x1 - x0) * step / steps), round(y0 + (y1 - y0) * step / steps)
            cells[y // 4, x // 2] = cells.get((y // 4, x // 2), 0) | BRAILLE[x % 2][y % 4]
    return cells


def overlaid(paths: Sequence[tuple[Sequence[tuple[int, int]], str]]) -> Cells:
    """Lines through dots, each in its style: where they share a cell, all dots show, in the style of the last."""
    dots: dict[tuple[int, int], int] = {}
    styles: dict[tuple[int, int], str] = {}
    for path, style in paths:
        for cell, bits in braille(path).items():
            dots[cell] = dots.get(cell, 0) | bits
            styles[cell] = style
    return {cell: (chr(0x2800 + bits), styles[cell]) for cell, bits in dots.items()}
