"""The command line: python -m benchmarks [NAME ...] [--seeds N] [--quick] [--results DIR] [--fresh] [--write]."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from a3c.config import did_you_mean
from benchmarks.benchmark import Benchmark, BenchmarkError, Size, Values
from benchmarks.catalogue import CATALOGUE
from benchmarks.machine import ROOT, conditions, git_commit, load_average
from benchmarks.page import page, results_text
from benchmarks.progress import Progress, duration
from benchmarks.results import Record, Results, outstanding, planned, under

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"


class UsageError(ValueError):
    """Options that cannot be followed."""


def main(arguments: Sequence[str] | None = None, catalogue: Mapping[str, Benchmark] = CATALOGUE) -> int:
    """Measure what is outstanding, print the table; return the exit code."""
    try:
        options = parse(arguments, catalogue)
        bench(options, catalogue)
    except UsageError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except BenchmarkError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def parse(arguments: Sequence[str] | None, catalogue: Mapping[str, Benchmark]) -> argparse.Namespace:
    """The options, with the directory of results filled in."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, and print a table.")
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help=f"{', '.join(catalogue)}; default: all")
    add("--seeds", type=int, default=Size().seeds, metavar="N", help="seeds to solve with (default: %(default)s)")
    add("--quick", action="store_true", help="next to nothing of everything, to see whether it works")
    add("--results", type=Path, metavar="DIR", help="where raw results are kept; default: benchmarks/results")
    add("--fresh", action="store_true", help="discard the results of these benchmarks first")
    add("--report", action="store_true", help="measure nothing: the table of the newest results there are")
    add("--write", action="store_true", help="also write the page docs/benchmarks.md, of all benchmarks")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in catalogue:
            near = did_you_mean(name, catalogue) or f"; there are {', '.join(catalogue)}"
            raise UsageError(f"unknown benchmark '{name}'{near}")
    if options.seeds < 1:
        raise UsageError(f"--seeds must be at least 1, got {options.seeds}")
    if options.quick and options.write:
        raise UsageError("--quick measures nothing worth writing down; leave out one of --quick and --write")
    if options.report and options.fresh:
        raise UsageError("--fresh discards what --report is to show; leave out one of them")
    options.results = options.results or (RESULTS / "quick" if options.quick else RESULTS)
    return options


def bench(options: argparse.Namespace, catalogue: Mapping[str, Benchmark]) -> None:
    """Measure, print and, where asked, write."""
    results, size = Results(options.results), Size(options.seeds, options.quick)
    named = {name: benchmark for name, benchmark in catalogue.items() if name in (options.names or catalogue)}
    circumstances = newest_conditions(results, named) if options.report else conditions()
    if not options.report:
        warn_when_busy()
        if options.fresh:
            for name in named:
                results.discard(name)
        progress = Progress(named, size, results, circumstances)
        for benchmark in named.values():
            measure(benchmark, size, results, circumstances, progress)

    def stored(benchmark: Benchmark) -> list[Record]:
        return planned(benchmark.plan(size), under(results.load(benchmark.name), circumstances))

    def newest(benchmark: Benchmark) -> list[Record]:
        records = results.load(benchmark.name)
        return planned(benchmark.plan(size), under(records, records[-1].conditions)) if records else []

    print("\n" + results_text({name: stored(benchmark) for name, benchmark in named.items()}, named))
    if options.write:
        everything = {name: stored(benchmark) or newest(benchmark) for name, benchmark in catalogue.items()}
        PAGE.write_text(page(everything, catalogue))
        if everything.get("growth"):
            from benchmarks.growth_figures import draw  # imports matplotlib

            draw([record.trial for record in everything["growth"]], PAGE.parent / "figures")
        print(f"\nwritten: {PAGE.relative_to(ROOT)}")


def measure(
    benchmark: Benchmark, size: Size, results: Results, circumstances: dict[str, Any], progress: Progress
) -> None:
    """Measure the trials of one benchmark that have not been measured under these circumstances."""
    records, plan = results.load(benchmark.name), benchmark.plan(size)
    usable = under(records, circumstances)
    if others := len(records) - len(usable):
        print(f"{benchmark.name}: {others} older results are of another machine or version and are left alone")
    trials = outstanding(plan, usable)
    if len(trials) < len(plan):
        print(f"{benchmark.name}: {len(plan) - len(trials)} of {len(plan)} are there already")
    if trials:
        benchmark.prepare()
    for number, parameters in enumerate(trials, len(plan) - len(trials) + 1):
        load, date, started = load_average(), datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
        values = benchmark.measure(parameters)
        took = round(time.monotonic() - started, 1)
        results.append(Record(benchmark.name, parameters, values, circumstances, git_commit(), date, load, took))
        progress.measured(benchmark.name, took)
        print(f"{benchmark.name} {number}/{len(plan)} ({duration(took)}; {progress}): {one_line(values)}", flush=True)


def newest_conditions(results: Results, benchmarks: Mapping[str, Benchmark]) -> dict[str, Any]:
    """Those of the latest record."""
    records = [record for name in benchmarks for record in results.load(name)]
    if not records:
        raise UsageError("there are no results to report; leave out --report to measure")
    return max(records, key=lambda record: record.date).conditions


def one_line(values: Values, prefix: str = "") -> str:
    """A trial's values for the progress line; of lists, only the length."""
    words = []
    for name, value in values.items():
        if isinstance(value, dict):
            words.append(one_line(value, f"{prefix}{name}."))
        else:
            shown = f"{value:,.6g}" if isinstance(value, float) else value
            words.append(f"{prefix}{name} {f'({len(value)})' if isinstance(value, list) else shown}")
    return ", ".join(words)


def warn_when_busy() -> None:
    """Timings on a busy machine tell about the others on it."""
    load, cores = load_average(), os.cpu_count() or 1
    if load is not None and load > 0.5 * cores:
        print(f"the machine is busy (load average {load} on {cores} cores): these timings will not be worth keeping")


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # either ends what is being measured, too
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
