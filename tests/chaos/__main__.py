"""The command line: python -m tests.chaos [NAME ...] [--scale X] [--list] [--table]."""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from a3c.config import did_you_mean
from benchmarks.machine import ROOT, conditions, git_commit, load_average
from benchmarks.page import machine_lines
from benchmarks.results import Record, Results
from tests.chaos.catalogue import FAULTS, Fault
from tests.chaos.outcome import Outcome

RESULTS, KIND = Results(ROOT / "benchmarks" / "results"), "chaos"
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"
COLUMNS = ("fault", "tried", "fired", "survived", "lost", "note")
NOTE_LENGTH = 160
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Inject what was asked for; 1 where anything was lost or nothing fired."""
    options = parse(arguments)
    if options.list:
        for name, fault in FAULTS.items():
            print(f"{name:20} {fault.count or 'all':>6}  {fault.title}")
        return 0
    if options.table:
        print(markdown())
        return 0
    records = []
    for name in options.names or FAULTS:
        records.append(inject(name, FAULTS[name], options.scale))
        if options.scale == 1:  # what was tried less often is no evidence to publish
            RESULTS.append(records[-1])
            write_page()
    show(records)
    return int(any(record.values["lost"] or not record.values["fired"] for record in records))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Inject faults, and count what is lost.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="faults to inject (default: all; see --list)")
    parser.add_argument("--scale", type=float, default=1.0, metavar="X",
                        help="times as many injections; other than 1, results are shown and not kept")  # fmt: skip
    parser.add_argument("--list", action="store_true", help="inject nothing: the faults there are")
    parser.add_argument("--table", action="store_true", help="inject nothing: the newest results as Markdown")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in FAULTS:
            parser.error(f"unknown fault '{name}'{did_you_mean(name, FAULTS)}; --list shows all")
    if not 0 < options.scale < float("inf"):
        parser.error(f"--scale must be a positive number, got {options.scale}")
    return options


def inject(name: str, fault: Fault, scale: float) -> Record:
    """Inject one fault and say in a line what came of it; one that cannot be injected counts as lost."""
    load, date, started = load_average(), datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        try:
            outcome = fault.inject(Path(folder), scale)
        except Exception as error:  # the other faults are still worth their turn
            outcome = Outcome(1, 0, 0, 1, f"could not be injected: {error!r}")
    seconds = round(time.monotonic() - started)
    print(f"{name}: {outcome.tried} tried, {outcome.fired} fired, {outcome.survived} survived, {outcome.lost} lost "
          f"({seconds} s): {_note(outcome.detail)}", flush=True)  # fmt: skip
    values = asdict(outcome) | {"seconds": seconds}
    return Record(KIND, {"fault": name, "scale": scale}, values, conditions(), git_commit(), date, load)


def show(records: Sequence[Record]) -> None:
    """A table at the end; plain columns where it is piped."""
    live = sys.stdout.isatty()
    table = Table(*COLUMNS, box=box.HEAVY_HEAD if live else None)
    for record in records:
        color = "red" if record.values["lost"] or not record.values["fired"] else None
        table.add_row(*_cells(record), style=color)
    Console(width=None if live else 2 * NOTE_LENGTH).print(table)


def markdown() -> str:
    """The newest results of every fault, and what they were measured on."""
    newest = {record.parameters["fault"]: record for record in RESULTS.load(KIND)}
    records = [newest[name] for name in FAULTS if name in newest]
    lines = [f"| fault | survived when | {' | '.join(COLUMNS[1:])} |", "|---|---|---:|---:|---:|---:|---|"]
    for name, record in ((record.parameters["fault"], record) for record in records):
        title, *cells = _cells(record)
        lines.append(f"| {title} | {FAULTS[name].survived_when} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"- {line}" for line in machine_lines(records))])


def write_page() -> None:
    """Put the table between the page's marks."""
    text = PAGE.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{markdown()}\n{END}{after}")


def _cells(record: Record) -> list[str]:
    values = record.values
    counts = [f"{values[name]:,}" for name in COLUMNS[1:5]]
    return [FAULTS[record.parameters["fault"]].title, *counts, _note(values["detail"])]


def _note(detail: str) -> str:
    line = " ".join(detail.split()).replace("|", "/")
    return line if len(line) <= NOTE_LENGTH else line[:NOTE_LENGTH] + " ..."


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
