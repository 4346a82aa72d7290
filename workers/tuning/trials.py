"""One run of a search, as a process of its own: how far it is, what it reached, and what that counts for."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from a3c.config import Config
from workers.runs.program import SCRIPT, changed_options

FIRST_SEED = 1000  # of the trials; what is reported, and the gallery, have seeds from 0 on
TENTHS = 10  # of a run's budget, after each of which a search may give it up
PATIENCE_SECONDS = 15.0  # for a run to end when it is told to
# Before the program starts: have the kernel tell it when the search dies, however that does (PR_SET_PDEATHSIG).
EXECUTE = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"
ENDS_WITH_PARENT = (sys.executable, "-c", EXECUTE) if sys.platform == "linux" else ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run has reached."""

    status: str
    mean: float | None  # of its last greedy evaluation
    env_steps: int  # until it was solved, else all
    seconds: float
    reason: str = ""

    @property
    def is_solved(self) -> bool:
        return self.status == "solved"

    def score(self, target: float | None, budget: int) -> float:
        """What it counts for: the last greedy mean, at most the target; where that is reached, more the sooner."""
        if self.is_solved and target is not None:
            return target + max(abs(target), 1.0) * (1 - self.env_steps / budget)
        mean = -sys.float_info.max if self.mean is None else self.mean
        return mean if target is None else min(mean, target)


class Run:
    """A training process, with everything that it starts in a process group of its own."""

    def __init__(self, options: Mapping[str, Any], path: Path):
        self._path = path
        shutil.rmtree(path, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        config = Config.from_options(options)
        words = [*changed_options(config), "--run-dir", str(path), "--dashboard", "off"]
        self._budget, self._log = config.max_env_steps, path.with_suffix(".log")
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*ENDS_WITH_PARENT, sys.executable, str(SCRIPT), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def progress(self) -> tuple[int, float | None]:
        """How many tenths of its budget are spent, and the mean return of the training's last episodes.

        Not of evaluations, of which a policy that promises nothing has none.
        """
        row = _last_row(self._path / "metrics.csv")
        if not row or not row["mean_return"]:
            return 0, None
        return min(int(row["env_steps"]) * TENTHS // self._budget, TENTHS - 1), float(row["mean_return"])

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def outcome(self) -> Outcome:
        """What it has reached, once it has ended; of what failed, why."""
        try:
            found = Outcome(**outcome_of(self._path))
        except (OSError, ValueError, KeyError):
            said = self._log.read_text(errors="replace").strip().splitlines() or ["it died"]
            return Outcome("failed", None, 0, 0.0, said[-1][:200])
        shutil.rmtree(self._path / "checkpoints", ignore_errors=True)  # the options are what is looked for
        return found if self._process.returncode == 0 else Outcome("failed", None, 0, 0.0, found.reason)

    def end(self) -> None:
        """Stop it, and whatever it has left."""
        if not self.has_ended():
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def outcome_of(path: Path) -> dict[str, Any]:
    """The fields of an `Outcome`, of a run directory."""
    summary, row = json.loads((path / "summary.json").read_text()), _last_row(path / "evaluations.csv")
    solved = summary["status"] == "solved"
    return {
        "status": summary["status"],
        "mean": float(row["mean"]) if row else None,
        "env_steps": summary["solved_env_steps"] if solved else summary["env_steps"],
        "seconds": summary["wall_seconds"],
        "reason": summary["reason"],
    }


def _last_row(table: Path) -> dict[str, str]:
    """The last whole row of a table that is being written; {} where there is none."""
    with suppress(OSError):
        whole = table.read_text().split("\n")[:-1]  # what follows the last newline is half a row, or nothing
        return next(csv.DictReader([*whole[:1], *whole[1:][-1:]]), {})
    return {}
