"""Names of arms where there is little room: shorter, and never two arms under one."""

import re
from collections.abc import Callable, Sequence

from rich.cells import cell_len, set_cell_size

from workers.console.drawing import clean

CUT = "…"
LONGEST_WORD = 12  # letters


def shortened(names: Sequence[str], cells: int) -> list[str]:
    """The names in at most so many cells each, in the same order, every one different.

    Those that are too long lose their end; where that makes two of them the same, the ends of their words, so that
    the values stay; else their middle. Where nothing keeps them apart, each begins with its number.

    Args:
        names: different ones.
        cells: at least as many as the number of names has digits.
    """
    whole = [clean(name) for name in names]
    for cut in (_without_end, _abbreviated, _without_middle):
        short = [cut(name, cells) for name in whole]
        if len(set(short)) == len(short):
            return short
    return [_without_end(f"{place} {name}", cells) for place, name in enumerate(whole, 1)]


def short_names(names: Sequence[str], cells: int) -> Callable[[str], str]:
    """Of each of the names, the one that `shortened` gives it; any other is only cleaned."""
    known = dict(zip(names, shortened(names, cells), strict=True))
    return lambda name: known.get(name, clean(name))


def _without_end(name: str, cells: int) -> str:
    return name if cell_len(name) <= cells else set_cell_size(name, cells - 1) + CUT


def _abbreviated(name: str, cells: int) -> str:
    """learning_rate 0.01: l… 0.01."""
    for letters in range(LONGEST_WORD, 0, -1):
        if cell_len(name) > cells:
            name = re.sub(rf"([a-z_]{{{letters}}})[a-z_{CUT}]{{2,}}", rf"\1{CUT}", name)
    return _without_end(name, cells)


def _without_middle(name: str, cells: int) -> str:
    if cell_len(name) <= cells:
        return name
    tail = name[len(name) - cells // 2 :]
    while cell_len(tail) > cells // 2:
        tail = tail[1:]
    return set_cell_size(name, cells - 1 - cell_len(tail)) + CUT + tail
