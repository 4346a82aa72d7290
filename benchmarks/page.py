"""What a bench ends with: its tables, and the page that publishes them."""

from collections.abc import Mapping, Sequence

from benchmarks.bars import asked_rows
from benchmarks.benchmark import Benchmark
from benchmarks.figures import Row, table
from benchmarks.results import Record

INTRODUCTION = """# Benchmarks

Measured by `make bench` and written by it; [benchmarks/README.md](../benchmarks/README.md) says how to run it, whole or
in pieces. Every ratio is of measurements made right after one another in the same run. Nothing here was tuned on the
seeds that it reports ([benchmarks/tuning](../benchmarks/tuning/README.md)). The raw results are in
`benchmarks/results/`.
"""
EVERYTHING = """## Everything else that was measured

Benchmark by benchmark: how it was measured, and all its figures. One without a bar only informs.
"""

Rows = Mapping[str, Sequence[Row]]  # of each benchmark, by its name


def results_text(records: Mapping[str, Sequence[Record]], benchmarks: Mapping[str, Benchmark]) -> str:
    """For the terminal: the table of each benchmark, and last the table of what is asked."""
    rows = rows_of(records, benchmarks)
    parts = [f"{name}\n\n{table(found)}\n" for name, found in rows.items()]
    asked = asked_rows(rows)
    return "\n".join([*parts, *([f"what is asked\n\n{table(asked)}\n"] if asked else [])])


def page(records: Mapping[str, Sequence[Record]], benchmarks: Mapping[str, Benchmark]) -> str:
    """docs/benchmarks.md: the table of what is asked, what it was measured on, and each benchmark by itself.

    A benchmark that has not been measured since the program or the machine changed says so, and answers nothing asked.
    """
    rows = rows_of(records, benchmarks)
    everything = [record for entries in records.values() for record in entries]
    newest = max(everything, key=lambda record: record.date).conditions if everything else {}
    older = {name for name, entries in records.items() if entries and entries[0].conditions != newest}
    current = {name: rows[name] for name in rows if name not in older}
    parts = [INTRODUCTION, "## What is asked\n", table(asked_rows(current)) + "\n", "## Measured on\n"]
    parts.append(_listed(machine_lines([record for record in everything if record.conditions == newest])))
    parts.append(EVERYTHING)
    for name, benchmark in benchmarks.items():
        parts += [f"### {name}\n", benchmark.meaning + "\n"]
        if name in older:
            parts += ["Measured earlier than the rest, on\n", _listed(machine_lines(records[name]))]
        parts.append(table(rows[name]) + "\n")
    return "\n".join(parts)


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines) + "\n"


def rows_of(records: Mapping[str, Sequence[Record]], benchmarks: Mapping[str, Benchmark]) -> Rows:
    """The rows of each benchmark."""
    return {name: benchmark.rows([record.trial for record in records[name]]) for name, benchmark in benchmarks.items()}


def machine_lines(records: Sequence[Record]) -> list[str]:
    """Machine, versions, commits and days; all records share their conditions."""
    if not records:
        return ["nothing has been measured"]
    seen = records[-1].conditions
    loads = [record.load for record in records if record.load is not None]
    days = sorted({record.date[:10] for record in records})
    lines = [
        f"{seen['cpu']}, {seen['cores']} cores, {seen['memory_gib']} GiB of memory, {seen['system']}",
        "Python {python}, torch {torch}, gymnasium {gymnasium}, numpy {numpy}".format(**seen),
        f"commit {', '.join(sorted({record.commit for record in records}))} (sources {seen['program']})",
        days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}",
    ]
    return lines + ([f"load average before a trial: {min(loads):.2f} to {max(loads):.2f}"] if loads else [])
