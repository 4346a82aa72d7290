"""The log of a run: its history so far, as a `Status` while it trains and as a `Summary` at its end."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from a3c.config import Config
from a3c.environments import EnvironmentSpec
from shared.scoreboard import Scoreboard
from shared.store import SharedStore
from workers.runs.directory import RunDirectory
from workers.runs.evaluations import Progress
from workers.runs.records import Evaluation, Event, Faults, Races, Status, Summary, WorkerStatus
from workers.runs.telemetry import Telemetry

if TYPE_CHECKING:
    from workers.runs.resume import Resumed

Workers = Callable[[], Sequence[WorkerStatus]]  # called after the telemetry's interval has ended
EVENTS_SHOWN = 50
CURVE_POINTS = 500  # a console has room for fewer


class View(Protocol):
    """Shows a run while it trains. No error may reach the caller."""

    def update(self, status: Status) -> None: ...  # called several times a second
    def event(self, event: Event) -> None: ...
    def traceback(self, report: str) -> None: ...  # the crash report of a process
    @property
    def terminal(self) -> str | None: ...  # the path of the terminal whose cursor is hidden meanwhile


class RunLog:
    """Keeps the history, writes it to the run directory and shows it."""

    def __init__(
        self,
        config: Config,
        environment: EnvironmentSpec,
        scoreboard: Scoreboard,
        store: SharedStore,
        directory: RunDirectory,
        dashboard: View,
        resumed: "Resumed | None",
    ):
        self._config, self._environment = config, environment
        self._scoreboard, self._store = scoreboard, store
        self._directory, self._dashboard = directory, dashboard
        self.telemetry = Telemetry(scoreboard)
        self.solved: Evaluation | None = None
        self.progress = resumed.progress if resumed else Progress()  # of the evaluations, when the run starts
        self.best = self._saved = resumed.best if resumed else None  # known, and on disk
        self.last: Evaluation | None = None  # of the policy that an interrupted run ends with
        self._evaluations: list[Evaluation] = list(resumed.evaluations) if resumed else []
        self._events: list[Event] = []
        self._checkpoints = {name for name in ("best", "latest") if resumed and (name == "latest" or self.best)}
        self._warned: set[str] = set()
        self._fresh_before = scoreboard.faults()["episodes"]
        self._next_row = 0.0  # elapsed seconds
        self._logged_env_steps = -1
        self._target = environment.target(config.evaluation.target_return)

    def event(self, kind: str, message: str) -> None:
        """Something happened: keep it and show it."""
        event = Event(round(self._elapsed(), 3), kind, message)
        self._events = [*self._events, event][-EVENTS_SHOWN:]
        self._directory.write_event(event)
        self._dashboard.event(event)

    def crash(self, report: str) -> None:
        """Show the crash report of a process."""
        self._dashboard.traceback(report)

    def receive(self, kind: str, data: Any) -> None:
        """A message of the monitor or the checkpointer."""
        if kind == "evaluated":
            self._evaluations.append(data)
            if len(self._evaluations) > CURVE_POINTS:  # evaluations.csv keeps them all
                del self._evaluations[1:-1:2]
        elif kind in ("best", "last", "solved"):
            setattr(self, kind, data)
        elif kind == "checkpointed":
            self._checkpoints.add(data)
            self._saved = self.best if data == "best" else self._saved
            self.event("checkpointed", f"checkpoints/{data}.json")
        else:
            self.event(kind, data)
        if kind in ("evaluated", "last"):
            result = f"{data.mean:.1f} +- {data.std:.1f} over {data.episodes} episodes at {data.env_steps:,} env steps"
            self.event("verified" if data.verification else "evaluated", result)
            if data.critic:
                self.event("critic", data.critic)

    def update(self, phase: str, workers: Workers, monitor_cpu_percent: float | None, last: bool = False) -> None:
        """End an interval of the telemetry: a frame of the dashboard and, where one is due, a row of metrics.

        Rows are a thousandth of the elapsed time apart at least: a short run has many, the file of a long one is small.

        Args:
            last: whether the run ends: then the frame shows averages over the whole run.
        """
        self.telemetry.tick()
        status = self._status(phase, workers(), monitor_cpu_percent)
        self._warn()
        if status.env_steps != self._logged_env_steps if last else status.elapsed_seconds >= self._next_row:
            self._directory.write_metrics(status)
            self._next_row, self._logged_env_steps = status.elapsed_seconds * 1.001, status.env_steps
        if last:
            self.telemetry.whole()
            status = self._status(phase, workers(), monitor_cpu_percent)
        self._dashboard.update(status)

    def _warn(self) -> None:
        """Log once what the user would not see otherwise."""
        warnings = {"unsaved": self._directory.failure}
        if self._scoreboard.faults()["episodes"] > self._fresh_before:
            fresh = "an environment does not repeat itself: new episodes were begun where those under way could not be "
            warnings["warning"] = f"{fresh}brought back; not bit for bit"
        for kind, message in warnings.items():
            if message and kind not in self._warned:
                self._warned.add(kind)
                self.event(kind, message)

    def summary(self, status: str, reason: str, exit_code: int) -> Summary:
        """How the run ended, after `end`; also the last file of its directory."""
        self.event("stopped", reason)
        telemetry, totals, solved, seconds = self.telemetry, self._totals(), self.solved, self.telemetry.train_seconds()
        evaluation = solved or self._saved
        name = next((name for name in ("best", "latest") if self._is_saved(name)), None)
        if self.last is not None and (evaluation is None or self.last.mean > evaluation.mean):
            evaluation, name = self.last, "latest" if self._is_saved("latest") else name
        summary = Summary(
            **totals,
            status=status,
            workers=self._config.workers,
            wall_seconds=round(self._elapsed(), 3),
            train_seconds=round(seconds, 3),
            steps_per_second=round(totals["env_steps"] / seconds, 1) if seconds else 0.0,
            solved_env_steps=solved.env_steps if solved else None,
            solved_seconds=round(solved.seconds, 3) if solved else None,
            evaluation=evaluation,
            races=Races(self._store.overlapped_pushes, self._store.torn_pulls),
            cpu_seconds=round(float(telemetry.rows["cpu_seconds"].sum()), 3),
            profile=telemetry.profile(),
            advantage_magnitude=telemetry.advantage_magnitude(),
            policy_loss_variance=telemetry.policy_loss_variance(),
            worker_restarts=totals["faults"].worker_restarts,
            state_sha256=self._store.sha256(),
            checkpoint=name and f"checkpoints/{name}.json",
            reason=reason,
            exit_code=exit_code,
        )
        self._directory.write_summary(summary, telemetry.staleness_counts())
        return summary

    def _is_saved(self, name: str) -> bool:
        return name in self._checkpoints and (self._directory.path / "checkpoints" / f"{name}.json").exists()

    def _status(self, phase: str, workers: Sequence[WorkerStatus], monitor_cpu_percent: float | None) -> Status:
        telemetry = self.telemetry
        return Status(
            **self._totals(),
            run_dir=self._directory.shown,
            elapsed_seconds=self._elapsed(),
            workers=tuple(workers),
            phase=phase,
            train_seconds=self._scoreboard.training_seconds(time.monotonic()),
            steps_per_second=telemetry.steps_per_second(),
            mean_return=telemetry.mean_return(),
            evaluations=tuple(self._evaluations),
            best=self.best,
            time_shares=telemetry.time_shares(),
            losses=telemetry.losses(),
            monitor_cpu_percent=monitor_cpu_percent,
            events=tuple(self._events),
        )

    def _totals(self) -> dict[str, Any]:
        config, faults = self._config, self._scoreboard.faults()
        return {
            "env_id": self._environment.env_id,
            "mode": config.mode,
            "seed": config.seed,
            "max_env_steps": config.max_env_steps,
            "target_return": self._target,
            "eval_actions": config.evaluation.eval_actions,
            "env_steps": self.telemetry.total("env_steps"),
            "updates": self._store.updates,
            "episodes": self.telemetry.total("episodes"),
            "staleness": self.telemetry.staleness(),
            "faults": Faults(**{name: count for name, count in faults.items() if name != "episodes"}),
        }

    def _elapsed(self) -> float:
        return time.monotonic() - self._scoreboard.began
