"""What a text console can draw: lines of cells, figures, and curves made of braille dots.

A line is a list of (text, style) pairs. Rich's own tables and panels measure and wrap, which costs several times as
much per frame as the lines themselves; here every function knows its width from the start.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import ceil, floor, isfinite, log10

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions
from rich.segment import Segment

Line = list[tuple[str, str]]  # (text, rich style)
UNKNOWN = "–"  # noqa: RUF001 - a dash as thin as nothing
MARGIN = 10  # cells of the column that holds the sections' names and the chart's labels
ASCII = str.maketrans("━╸─│└┤╌◆●○■✗↻▁▂▃▄▅▆▇█▓▒░–·…•×", "=>-|`+-**o.x@__..--=#%+:-,.*x") | {ord("±"): "+-"}  # noqa: RUF001
ASCII |= {0x2800 + bits: ":" if bits & 0x1B and bits & 0xE4 else "'" if bits & 0x1B else "." for bits in range(1, 256)}
BRAILLE = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # the bit of each dot, by column and row


@dataclass(frozen=True, slots=True)
class Frame:
    """Finished lines: never wrapped, and in plain ASCII on a console that knows no more."""

    lines: list[Line]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for line in self.lines:
            for text, style in line:
                yield Segment(to_ascii(text) if options.ascii_only else text, console.get_style(style))
            yield Segment.line()


def to_ascii(text: str) -> str:
    return text.translate(ASCII).encode("ascii", "replace").decode()


def clean(text: str) -> str:
    """Text from elsewhere on one line, without codes that a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def number(value: float | None, digits: int = 1) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:,.{digits}f}" if abs(value) < (1e6 if digits else 1e10) else f"{value:.3g}"


def count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def duration(seconds: float) -> str:
    if not seconds >= 60:
        return f"{seconds:.1f} s"
    minutes = floor(seconds) // 60
    clock = f"{minutes % 60:02}:{floor(seconds) % 60:02}"
    return f"{minutes // 60}:{clock}" if minutes >= 60 else clock


def plural(many: int, name: str) -> str:
    return f"{many:,} {name}{'s' * (many != 1)}"


def figure(name: str, value: str) -> Line:
    return [(f"{name} ", "dim"), (value, "bold red" if "nan" in value or "inf" in value else "")]


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


def named(name: str, line: Line) -> Line:
    """A section's first line: its name in the left margin."""
    return [(f"{name:<{MARGIN}}", "bold"), *line]


def apart(left: Line, right: Line, width: int) -> Line:
    """One text at either edge; the right one stays whole."""
    return [*fitted(left, max(width - cells_of(right) - 2, 0)), ("  ", ""), *right]


def joined(facts: Sequence[Line], width: int, gap: int = 3) -> Line:
    """The facts in order, up to the first that does not fit."""
    line: Line = []
    for fact in facts:
        space: Line = [(" " * gap, "")] if line else []
        if cells_of(line + space + fact) > width:
            break
        line += space + fact
    return line


def flowed(facts: Sequence[Line], width: int, gap: int = 2) -> list[Line]:
    """The facts in order, a new line wherever the next does not fit."""
    lines: list[Line] = []
    for fact in facts:
        if lines and cells_of(lines[-1]) + gap + cells_of(fact) <= width:
            lines[-1] = [*lines[-1], (" " * gap, ""), *fact]
        else:
            lines.append(fact)
    return lines


def in_columns(cells: Sequence[Line], columns: int, width: int) -> list[Line]:
    """Cells of equal width, top to bottom and then left to right."""
    rows = ceil(len(cells) / columns)
    return [[part for cell in cells[row::rows] for part in fitted(cell, width)] for row in range(rows)]


def beside(left: Sequence[Line], right: Sequence[Line], width: int) -> list[Line]:
    """Two stacks of lines next to each other; the right one starts at `width`."""
    rows = range(max(len(left), len(right)))
    return [
        fitted(left[row] if row < len(left) else [], width) + (right[row] if row < len(right) else []) for row in rows
    ]


def sparkline(values: Sequence[float]) -> str:
    highest = max(values, default=0.0)
    return "".join("▁▂▃▄▅▆▇█"[round(7 * max(value, 0.0) / highest)] for value in values) if highest > 0 else ""


def gauge(share: float, cells: int, style: str) -> Line:
    full = floor(min(max(share, 0.0), 1.0) * cells)
    tip = "╸" * (0 < full < cells)
    return [("━" * (full - len(tip)) + tip, style), ("─" * (cells - full), "dim")]


def stacked(shares: Sequence[tuple[float, str, str]], cells: int) -> Line:
    """A bar of (share, glyph, style) parts; what the shares leave of 1 stays empty."""
    line: Line = []
    total, start = 0.0, 0
    for share, glyph, style in shares:
        total += share
        end = round(min(total, 1.0) * cells)
        line.append((glyph * (end - start), style))
        start = end
    return line


@dataclass(frozen=True, slots=True)
class Series:
    """A curve: points in order of x, and a sign at one of them."""

    points: tuple[tuple[float, float], ...]
    style: str = "cyan"
    mark: tuple[float, float] | None = None
    sign: tuple[str, str] = ("◆", "bold green")  # one cell and its style


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves from x = 0 on, the later ones over the earlier, and a dashed line at `goal`."""

    series: tuple[Series, ...]
    right: float
    unit: str  # of x
    goal: float | None

    def lines(self, width: int, rows: int) -> list[Line]:
        """The chart with its axes: the labels in the margin, the end of the x axis in its last row."""
        columns, rows = width - MARGIN - 1, rows - 1
        values = [y for series in self.series for _, y in series.points]
        low, high = round_range(values + ([] if self.goal is None else [self.goal]))

        def dot(x: float, y: float) -> tuple[int, int]:  # the screen counts its rows from the top
            return round(x / self.right * (2 * columns - 1)), round((high - y) / (high - low) * (4 * rows - 1))

        labels = {0: f"{high:,.6g}"}
        cells: dict[tuple[int, int], tuple[str, str]] = {}
        if self.goal is not None:
            row = dot(0, self.goal)[1] // 4
            labels[row] = f"{self.goal:,.6g}"
            cells |= {(row, column): ("╌", "yellow") for column in range(columns)}
        cells |= overlaid([([dot(*point) for point in series.points], series.style) for series in self.series])
        cells |= signs([(dot(*series.mark), series.sign) for series in self.series if series.mark])
        if not values:
            cells |= {(rows // 2, 2 + i): (letter, "dim") for i, letter in enumerate("no curve yet")}
        grid = [[cells.get((row, column), (" ", "")) for column in range(columns)] for row in range(rows)]
        end = f" {self.right:,.0f} {self.unit}"
        axis: Line = [(f"{low:>{MARGIN - 1},.6g} └{'─' * (columns - len(end))}{end}", "dim")]
        return [chart_row(labels.get(row, ""), cells_) for row, cells_ in enumerate(grid)] + [axis]


def chart_row(label: str, cells: Sequence[tuple[str, str]]) -> Line:
    runs = groupby(cells, key=lambda cell: cell[1])
    parts = [("".join(text for text, _ in run), style) for style, run in runs]
    return [(f"{label:>{MARGIN - 1}} {'┤' if label else '│'}", "dim"), *parts]


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


def overlaid(paths: Sequence[tuple[Sequence[tuple[int, int]], str]]) -> dict[tuple[int, int], tuple[str, str]]:
    """Lines through dots, each in its style: where they share a cell, all dots show, in the style of the last."""
    dots: dict[tuple[int, int], int] = {}
    styles: dict[tuple[int, int], str] = {}
    for path, style in paths:
        for cell, bits in braille(path).items():
            dots[cell] = dots.get(cell, 0) | bits
            styles[cell] = style
    return {cell: (chr(0x2800 + bits), styles[cell]) for cell, bits in dots.items()}


def signs(places: Sequence[tuple[tuple[int, int], tuple[str, str]]]) -> dict[tuple[int, int], tuple[str, str]]:
    """The cell of each sign, by the dot (x, y) where it belongs; one that finds its cell taken moves to the left."""
    cells: dict[tuple[int, int], tuple[str, str]] = {}
    for (x, y), sign in places:
        row, column = y // 4, x // 2
        while (row, column) in cells and column > 0:
            column -= 1
        cells[row, column] = sign
    return cells


def finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None
