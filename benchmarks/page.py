"""What a bench ends with: the table, and the page that publishes it."""

from collections.abc import Mapping, Sequence

from benchmarks.benchmark import Benchmark
from benchmarks.figures import Row, table
from benchmarks.results import Record

INTRODUCTION = """# Benchmarks

Measured by `make bench` and written by it; [benchmarks/README.md](../benchmarks/README.md) says how to run it, whole or
in pieces. Every ratio is of measurements made right after one another in the same run. A figure without a bar only
informs. The raw results are in `benchmarks/results/`.
"""


def results_table(records: Mapping[str, Sequence[Record]], benchmarks: Mapping[str, Benchmark]) -> str:
    """The rows of all benchmarks, one table."""
    rows: list[Row] = []
    for name, benchmark in benchmarks.items():
        rows += benchmark.rows([record.trial for record in records[name]])
    return table(rows)


def page(records: Mapping[str, Sequence[Record]], benchmarks: Mapping[str, Benchmark]) -> str:
    """docs/benchmarks.md: the table, what it was measured on, and what each benchmark does."""
    everything = [record for entries in records.values() for record in entries]
    parts = [INTRODUCTION, "## Results\n", results_table(records, benchmarks) + "\n", "## Measured on\n"]
    parts.append("\n".join(f"- {line}" for line in machine_lines(everything)) + "\n")
    parts.append("## How each was measured\n")
    parts += [f"**{name}**: {benchmark.meaning}\n" for name, benchmark in benchmarks.items()]
    return "\n".join(parts)


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
