"""The command line: python -m tests.chaos [NAME ...] [--scale X] [--seed N [--first N]] [--list] [--table].

Long faults are injected in batches. Each batch is kept as soon as it is done, and an interrupted command, started
again, injects the batches that are missing.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from a3c.config import did_you_mean
from benchmarks.machine import ROOT, conditions, git_commit, load_average
from benchmarks.page import machine_lines
from benchmarks.results import Record, Results, under
from tests.chaos.catalogue import FAULTS, Fault
from tests.chaos.outcome import Outcome, in_words, summed

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
            print(f"{name:20} {fault.count or 'all':>6} {fault.minutes:3} min  {fault.title}")
        return 0
    if options.table:
        print(markdown())
        return 0
    records = [total([*batches(name, options)]) for name in options.names or FAULTS]
    show(records)
    return int(any(record.values["lost"] or not record.values["fired"] for record in records))


def batches(name: str, options: argparse.Namespace) -> Iterator[Record]:
    """Inject one fault, batch by batch; those that are evidence to publish are kept."""
    fault, whole = FAULTS[name], options.scale == 1 and options.seed is None
    counts = fault.batches(options.scale)[: None if options.seed is None else 1]
    kept = under(_of(name, RESULTS.load(KIND)), conditions()) if whole and fault.batch else []
    for batch in outstanding(len(counts), kept):
        seed = 1 + batch if options.seed is None else options.seed
        parameters = {"fault": name, "scale": options.scale, **({"batch": batch} if fault.batch else {})}
        record = inject(parameters, fault, counts[batch], seed, options.first)
        if whole:
            RESULTS.append(record)
            write_page()
        yield record


def outstanding(count: int, kept: Sequence[Record]) -> list[int]:
    """The batches injected least often so far: all of them, or those that an interruption has left."""
    times = Counter(record.parameters.get("batch") for record in kept)
    least = min(times[batch] for batch in range(count))
    return [batch for batch in range(count) if times[batch] == least]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Inject faults, and count what is lost.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="faults to inject (default: all; see --list)")
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        metavar="X",
        help="times as many injections; other than 1, results are shown and not kept",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="repeat what was drawn from a seed; results are not kept")
    parser.add_argument(
        "--first",
        type=int,
        default=0,
        metavar="N",
        help="begin with this injection of a seed, such as one that was lost (default: 0)",
    )
    parser.add_argument("--list", action="store_true", help="inject nothing: the faults there are")
    parser.add_argument("--table", action="store_true", help="inject nothing: the newest results as Markdown")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in FAULTS:
            parser.error(f"unknown fault '{name}'{did_you_mean(name, FAULTS)}; --list shows all")
    if not 0 < options.scale < float("inf"):
        parser.error(f"--scale must be a positive number, got {options.scale}")
    return options


def inject(parameters: dict[str, Any], fault: Fault, count: int | None, seed: int, first: int = 0) -> Record:
    """Inject a fault and say in a line what came of it; one that cannot be injected counts as lost."""
    load, date, started = load_average(), datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        try:
            outcome = fault.inject(Path(folder), count, seed, first)
        except Exception as error:  # the other faults are still worth their turn
            outcome = Outcome(1, 0, 0, 1, f"could not be injected: {error!r}")
    values = asdict(outcome) | {"seconds": round(time.monotonic() - started)}
    for loss in values.pop("losses"):
        print(f"lost (--seed {seed}): {loss}", flush=True)
    number = f", batch {parameters['batch']}" if "batch" in parameters else ""
    print(
        f"{parameters['fault']}{number}: {outcome.tried} tried, {outcome.fired} fired, {outcome.survived} survived, "
        f"{outcome.lost} lost ({values['seconds']} s): {_note(values)}",
        flush=True,
    )
    return Record(KIND, parameters, values, conditions(), git_commit(), date, load)


def total(records: Sequence[Record]) -> Record:
    """The batches of one fault as one record: the newest, with the counts of all and the first loss."""
    values = [record.values for record in records]
    first = next((each for each in values if each["lost"]), values[-1])
    counts = {name: sum(each[name] for each in values) for name in (*COLUMNS[1:5], "seconds")}
    facts = summed(each.get("facts", {}) for each in values)
    return replace(records[-1], values={**counts, "detail": first["detail"], "facts": facts})


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
    loaded = RESULTS.load(KIND)
    records = [total(newest) for name in FAULTS if (newest := current(_of(name, loaded)))]
    lines = [f"| fault | survived when | {' | '.join(COLUMNS[1:])} |", "|---|---|---:|---:|---:|---:|---|"]
    for name, record in ((record.parameters["fault"], record) for record in records):
        title, *cells = _cells(record)
        lines.append(f"| {title} | {FAULTS[name].survived_when} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"- {line}" for line in machine_lines(records))])


def current(records: Sequence[Record]) -> list[Record]:
    """Of one fault: the newest record of each batch that was injected under the newest conditions."""
    if not records or "batch" not in records[-1].parameters:
        return [*records[-1:]]
    return [
        *{
            record.parameters.get("batch"): record
            for record in under(records, records[-1].conditions)
            if "batch" in record.parameters
        }.values()
    ]


def write_page() -> None:
    """Put the table between the page's marks."""
    text = PAGE.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{markdown()}\n{END}{after}")


def _of(name: str, records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record.parameters["fault"] == name]


def _cells(record: Record) -> list[str]:
    counts = [f"{record.values[name]:,}" for name in COLUMNS[1:5]]
    return [FAULTS[record.parameters["fault"]].title, *counts, _note(record.values)]


def _note(values: Mapping[str, Any]) -> str:
    """The first loss; where there is none what was covered, in words or in counts."""
    covered = in_words(values.get("facts", {})) if not values["lost"] else ""
    line = " ".join((covered or values["detail"]).split()).replace("|", "/")
    return line if len(line) <= NOTE_LENGTH else line[:NOTE_LENGTH] + " ..."


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
