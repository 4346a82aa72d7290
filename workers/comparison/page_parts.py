"""The pieces of a page: sections, lists and tables of escaped text, and their style."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d8dee4; --paper: #ffffff; --shade: #f6f8fa;
  --accent: #0072b2 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #9aa4ae; --line: #30373f; --paper: #12161b;
  --shade: #1b2128; --accent: #6cb8e6 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; overflow-wrap: anywhere; text-wrap: balance }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .7rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line) }
.lead { font-size: 1.1rem; color: var(--soft); margin: 0 }
li { margin: .35rem 0; overflow-wrap: anywhere }
ul { padding-left: 1.2rem } li::marker { color: var(--accent) }
figure { margin: 1.8rem 0 } figure img { display: block; width: 100%; height: auto; background: #fff; padding: .6rem;
  border: 1px solid var(--line); border-radius: 8px }
figcaption, .note { color: var(--soft); font-size: .9rem; margin: .5rem 0 0 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .86rem; line-height: 1.35;
  font-variant-numeric: tabular-nums }
th, td { padding: .45rem .55rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line) }
thead th { color: var(--soft); font-weight: 500; vertical-align: bottom; border-bottom: 2px solid var(--line) }
td { white-space: nowrap } th:first-child, .text td { text-align: left }
.text td { white-space: normal; overflow-wrap: anywhere }
table + p, .scroll + .scroll { margin-top: 1.2rem }
.text thead th { text-align: left } .text tbody th { width: 14rem; font-weight: 500 }
td small { display: block; color: var(--soft); font-size: .78rem }
pre { background: var(--shade); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem;
  overflow-x: auto }
code { font: .88rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }
details { margin: 1rem 0 } summary { cursor: pointer; color: var(--accent) }
@media print { :root { --ink: #000; --soft: #444; --line: #bbb; --paper: #fff; --shade: #f6f6f6; --accent: #000 }
  main { max-width: none; padding: 0 } figure, tr { break-inside: avoid } h2 { break-after: avoid }
  .scroll { overflow: visible } table { font-size: .68rem } }
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a table, and beneath it in small letters."""

    text: str
    small: str = ""


def section(heading: str, content: str) -> str:
    """A part of the page; its content is HTML already."""
    return f"<section>\n<h2>{escape(heading)}</h2>\n{content}\n</section>"


def items(sentences: Iterable[str]) -> str:
    """A list of plain sentences."""
    return "<ul>\n" + "\n".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "\n</ul>"


def paragraphs(texts: Iterable[str]) -> str:
    """Plain texts, one below the other."""
    return "\n".join(f"<p>{escape(text)}</p>" for text in texts)


def details(summary: str, content: str) -> str:
    """HTML that is folded away until it is asked for."""
    return f"<details><summary>{escape(summary)}</summary>\n{content}\n</details>"


def table(headings: Sequence[str], rows: Sequence[Sequence[Cell]], text: bool = False) -> str:
    """A table; the first cell of a row heads it.

    Args:
        text: the cells are words, not figures, and stand at the left.
    """
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = "\n".join(_row(row) for row in rows)
    kind = ' class="text"' if text else ""
    return (
        f'<div class="scroll"><table{kind}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n'
        "</table></div>\n"
    )


def _row(cells: Sequence[Cell]) -> str:
    first, *others = cells
    return f'<tr><th scope="row">{escape(first.text)}</th>{"".join(_cell(cell) for cell in others)}</tr>'


def _cell(cell: Cell) -> str:
    small = f"<small>{escape(cell.small)}</small>" if cell.small else ""
    return f"<td>{escape(cell.text)}{small}</td>"
