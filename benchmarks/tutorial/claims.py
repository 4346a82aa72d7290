"""The tutorial's claims beside what the study `tutorial` measured.

python -m benchmarks.studies tutorial        # makes the runs
python -m benchmarks.tutorial.claims         # reads them, writes results/claims.json and prints the table
"""

import csv
import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT
from benchmarks.studies import RUNS

RESULTS = Path(__file__).parent / "results" / "claims.json"
READINGS = {"an update is an update": 1, "an update is a row of the log": 10}  # updates per "update" of the tutorial
LOW, HIGH = 400.0, 475.0


def main() -> None:
    """Judge every run, sum up each arm, and show."""
    arms: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((ROOT / RUNS / "tutorial" / "runs").iterdir()):
        arms.setdefault(path.name.partition("-seed-")[0], []).append(judge(path))
    results = {arm: summed_up(runs) for arm, runs in arms.items()}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    for arm, facts in results.items():
        print(arm)
        for name, value in facts.items():
            print(f"  {name}: {value}")


def judge(path: Path) -> dict[str, Any]:
    """One run: what its sampled and its greedy mean return were when the tutorial says so."""
    log, evaluations = rows(path / "updates.csv"), rows(path / "evaluations.csv")
    facts: dict[str, Any] = {}
    for reading, factor in READINGS.items():
        for update in (80, 150):
            facts[f"sampled mean at {update}, {reading}"] = at(log, update * factor, "mean_return")
            facts[f"greedy mean at {update}, {reading}"] = at(evaluations, update * factor, "mean")
        facts[f"env steps at 150, {reading}"] = at(log, 150 * factor, "env_steps")
    for name, table, column in (("sampled", log, "mean_return"), ("greedy", evaluations, "mean")):
        for level in (LOW, HIGH):
            first = next((row for row in table if row[column] and float(row[column]) >= level), None)
            for unit in ("updates", "env_steps", "seconds"):
                facts[f"{unit} to {name} mean {level:.0f}"] = None if first is None else float(first[unit])
    return facts


def summed_up(runs: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Median and range over the runs that have a value, and how many have."""
    return {name: told([run[name] for run in runs]) for name in runs[0]}


def told(values: Iterable[float | None]) -> str:
    values = list(values)
    known = sorted(value for value in values if value is not None)
    if not known:
        return f"never, 0 of {len(values)} runs"
    return f"{statistics.median(known):,.6g} ({known[0]:,.6g} to {known[-1]:,.6g}), {len(known)} of {len(values)} runs"


def at(table: Sequence[dict[str, str]], update: int, column: str) -> float | None:
    """The last value at or before an update; None before the first, and where the run ended before."""
    if not table or int(table[-1]["updates"]) < update:
        return None
    found = [row[column] for row in table if int(row["updates"]) <= update and row[column]]
    return float(found[-1]) if found else None


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
