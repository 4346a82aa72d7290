"""The table of what is asked of the program: its rows, and the figures of which benchmarks answer them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.figures import Figure, Joint, Row


@dataclass(frozen=True, slots=True)
class Asked:
    """A row of the table."""

    name: str
    benchmark: str
    figures: tuple[str, ...]  # the names of the benchmark's rows that hold samples, bar and aim


ASKED = (
    Asked(
        "prompt to verified solution on disk / bare `import torch, gymnasium`, console on",
        "solve",
        ("prompt to verified `best` on disk / bare `import torch, gymnasium`",),
    ),
    Asked(
        "whole process, prompt to prompt, against stable-baselines3 A2C (zoo): times faster",
        "stable-baselines3",
        ("whole process, A2C / ours",),
    ),
    Asked(
        "from the first env step to the verified solution, against stable-baselines3 A2C / PPO (zoo): times faster",
        "stable-baselines3",
        ("first env step to solution, A2C / ours", "first env step to solution, PPO / ours"),
    ),
    Asked(
        "env steps/s, paper's shape (1 env a worker, 5 steps, 2 x 128), against PFRL's A3C",
        "paper-shape",
        ("env steps/s, paper's shape / PFRL 0.4's A3C",),
    ),
    Asked(
        "env steps/s, paper's shape, as a share of the bare scalar environment's rate",
        "paper-shape",
        ("env steps/s, paper's shape, as a share of the bare scalar environment's",),
    ),
    Asked(
        "env steps/s, 64 envs a worker, as a share of the bare native vector environment's rate",
        "vector-shape",
        ("env steps/s, 64 envs a worker, as a share of the bare native vector environment's",),
    ),
    Asked("env steps until solved, defaults, all of 50 seeds solved", "solve", ("env steps until solved",)),
    Asked(
        "env steps until solved, `--preset sample-efficient`, all of 50 seeds solved",
        "sample-efficient",
        ("env steps until solved, `sample-efficient`",),
    ),
    Asked(
        "dashboard and monitor together, share of throughput, by CPU time",
        "overhead",
        ("dashboard and monitor together, share of the CPU time that the run takes",),
    ),
    Asked(
        "resident memory per worker beyond the shared pages",
        "memory",
        ("resident memory per worker beyond the shared pages, 4 workers, default shape",),
    ),
)


def asked_rows(rows: Mapping[str, Sequence[Row]]) -> list[Joint]:
    """The rows that the benchmarks in `rows` answer, in the order of the table.

    Args:
        rows: of each benchmark, by its name.
    """
    return [
        Joint(asked.name, tuple(_figure(rows[asked.benchmark], name) for name in asked.figures))
        for asked in ASKED
        if asked.benchmark in rows
    ]


def _figure(rows: Sequence[Row], name: str) -> Figure:
    return next(row for row in rows if isinstance(row, Figure) and row.name == name)
