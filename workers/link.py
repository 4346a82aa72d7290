"""What a worker knows of its run: where it pulls and pushes, what it publishes, and what it inherits."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from a3c.config import Config, NumericsError
from a3c.learners import RolloutStatistics
from a3c.rollouts import Collector, Stopwatch
from shared import PHASES
from shared.checkpoint_barrier import LAST
from shared.scoreboard import CRITIC, LATEST, SUMS, Scoreboard, add_moments
from shared.store import Pulled, SharedStore
from workers.worker_state import pack, unpack

if TYPE_CHECKING:
    from a3c.critic_memory import CriticMemory

CPU_INTERVAL = 0.05  # seconds between two readings of the CPU time: the kernel takes its time to answer
# Rollouts dropped in a row, over so many seconds: then nothing finite will come any more.
DROPS_IN_A_ROW, DROP_SECONDS = 100, 2.0


class Link(Protocol):
    """Everything that a worker knows of its run."""

    incarnation: int  # how many workers of this index came before
    slow: Tensor | None  # [P], filled with the slow copy of the parameters by every pull, where there is one

    memory: "CriticMemory | None"  # goes into the worker's snapshot, where there is one

    def join(self, collector: Collector, watch: Stopwatch) -> None:
        """Take over the state that the worker before this one left, and start to count."""

    def pull(self, into: Tensor) -> Pulled:
        """Copy the shared parameters into [P], between two rollouts; return how far training had come just before."""

    def first(self, pulled: Pulled, minibatches: int) -> int:
        """The minibatch of a rollout to begin with: where all step together, the one that the others are at."""

    def pull_again(self, into: Tensor) -> Pulled:
        """As `pull`, between two minibatches of a rollout."""

    def start_learning(self) -> None:
        """Note that the rollout is collected: until the next pull no environment is waited for."""

    def push(self, gradient: Tensor, learning_rate: float, pulled: Pulled) -> int | None:
        """Step the shared parameters along a gradient [P]; return its staleness, None where the worker is to end.

        StaleGradientError: it is older than the run allows.
        """

    def publish(
        self, statistics: RolloutStatistics, norm: float, staleness: int, learning_rate: float, acted: int, learned: int
    ) -> None:
        """Count the update that was pushed; its rollout was collected at update `acted`, learned from at `learned`."""

    def drop(self, fault: str) -> None:
        """Count a rollout that was not finite, or too stale, and start new episodes where its own are spoilt."""

    def beat(self) -> None:
        """Show that this worker lives."""

    def book_waiting(self, phase: str) -> None:
        """Book as waiting what this worker has waited for others in a phase that has ended."""

    def leave(self) -> None:
        """Hand in the last snapshot: this worker has ended."""


def connect(
    worker_index: int, incarnation: int, store: SharedStore, scoreboard: Scoreboard, run_dir: Path, config: Config
) -> "SharedMemoryLink":
    """The link of a worker in its own process; worker 0 writes updates.csv, a row per `log_interval` updates."""
    store.incarnation = incarnation
    link = SharedMemoryLink(worker_index, store, scoreboard)
    if config.staleness.forced_staleness:
        from workers.lagging_link import LaggingLink

        link = LaggingLink(worker_index, store, scoreboard, config.staleness.forced_staleness)
    if config.log_interval and worker_index == 0:
        from workers.runs.telemetry import UpdateLog

        link.log_update = UpdateLog(run_dir / "updates.csv", config.log_interval, store, scoreboard).write_due
    return link


class SharedMemoryLink:
    """The link of a worker on the machine of its run.

    A new run finds zeros. A process that replaces a dead one finds its counts: its episodes and generators died with
    it. In a resumed run there is a snapshot, and everything continues where it was.
    """

    log_update: Callable[[], None] | None = None  # called after every update that was counted
    slow: Tensor | None = None
    memory: "CriticMemory | None" = None

    def __init__(self, worker_index: int, store: SharedStore, scoreboard: Scoreboard):
        self._worker_index, self._store, self._scoreboard = worker_index, store, scoreboard
        self.incarnation = store.incarnation
        self._drops, self._first_drop = 0, 0.0

    def join(self, collector: Collector, watch: Stopwatch) -> None:
        self._collector, self._seconds = collector, watch.seconds
        row = self._scoreboard.row(self._worker_index)
        self._sums, self._others = row[: len(SUMS)], row[len(SUMS) :]
        self._moments = self._others[: len(CRITIC)].tolist()
        self._latest = latest = self._others[len(CRITIC) :]
        before = dict(zip(LATEST, latest.tolist(), strict=True))
        self._seconds.update((phase, before[f"{phase}_seconds"]) for phase in PHASES)
        snapshot = self._store.barrier.snapshot(self._worker_index)
        if snapshot is None:
            collector.episodes, collector.return_sum = int(before["episodes"]), before["return_sum"]
        elif not self._restore(unpack(snapshot)):
            self._scoreboard.count_dropped(self._worker_index, "episodes")
        if self._store.statistics is not None and collector.statistics is not None:
            collector.statistics.row = self._store.statistics.row(self._worker_index)
        collector.env_steps = max(collector.env_steps, self._store.env_steps_of(self._worker_index))
        self._started = before["started"] or time.monotonic()
        self._staleness_max = int(before["staleness_max"])
        self._earlier_cpu_seconds, self._cpu_due = before["cpu_seconds"], 0.0
        self._episodes, self._mean_return = collector.episodes, before["mean_return"]
        latest[LATEST.index("started")] = self._started
        latest[LATEST.index("env_steps")] = collector.env_steps  # of the last push, which may not be in the row
        watch.start()

    def pull(self, into: Tensor) -> Pulled:
        self._scoreboard.set_learning(self._worker_index, False)
        self._store.enqueue_due(self._worker_index, self._hand_in_due)
        self._hand_in_due()
        pulled = self._store.pull(into)
        if self.slow is not None:
            self._store.pull_slow(self.slow, into)
        return pulled

    def first(self, pulled: Pulled, minibatches: int) -> int:
        return self._store.first(pulled, minibatches)

    def pull_again(self, into: Tensor) -> Pulled:
        return self._store.pull_again(into)

    def start_learning(self) -> None:
        self._scoreboard.set_learning(self._worker_index, True)

    def push(self, gradient: Tensor, learning_rate: float, pulled: Pulled) -> int | None:
        if self._store.statistics is not None and self._collector.statistics is not None:
            self._store.statistics.write(self._worker_index, self._collector.statistics.row)
        return self._store.push(self._worker_index, gradient, learning_rate, self._collector.env_steps, pulled)

    def publish(
        self, statistics: RolloutStatistics, norm: float, staleness: int, learning_rate: float, acted: int, learned: int
    ) -> None:
        collector = self._collector
        if collector.episodes != self._episodes and collector.recent_returns:
            self._episodes = collector.episodes
            self._mean_return = sum(collector.recent_returns) / len(collector.recent_returns)
        self._staleness_max = max(self._staleness_max, staleness)
        if (now := time.monotonic()) >= self._cpu_due:
            self._cpu_seconds, self._cpu_due = self._earlier_cpu_seconds + time.process_time(), now + CPU_INTERVAL
        policy_loss = statistics.terms.policy_loss
        self._sums += (1, *statistics.terms, norm, policy_loss * policy_loss)
        self._moments = add_moments(self._moments, statistics.moments)
        self._others[:] = (
            *self._moments,
            collector.env_steps,
            collector.episodes,
            collector.return_sum,
            self._mean_return,
            *map(self._seconds.__getitem__, PHASES),
            self._cpu_seconds,
            learning_rate,
            self._staleness_max,
            self._started,
            now,
        )
        self._scoreboard.count_staleness(self._worker_index, staleness)
        self._scoreboard.note_versions(self._worker_index, acted, learned)
        self._drops = 0
        if self.log_update is not None:
            self.log_update()

    def drop(self, fault: str) -> None:
        """As `Link.drop`; raises NumericsError where for long there has been nothing else."""
        self._scoreboard.count_dropped(self._worker_index, fault)
        if fault == "stale_gradients":  # whose env steps count
            self._latest[LATEST.index("env_steps")] = self._collector.env_steps
            return
        now = time.monotonic()
        self._first_drop = self._first_drop if self._drops else now
        self._drops += 1
        if self._drops >= DROPS_IN_A_ROW and now - self._first_drop > DROP_SECONDS:
            raise NumericsError(
                f"{self._drops} rollouts in a row had {fault} that are not finite; lower learning_rate, or check the "
                "environment's observations and rewards"
            )
        if fault != "gradients":
            self._collector.restart_episodes()

    def book_waiting(self, phase: str) -> None:
        seconds, self._store.waited = self._store.waited, 0.0
        self._seconds[phase] -= seconds
        self._seconds[self._store.waits_in] += seconds

    def beat(self) -> None:
        self._scoreboard.beat(self._worker_index)

    def leave(self) -> None:
        self._hand_in(LAST)

    def _hand_in_due(self) -> None:
        if number := self._store.barrier.due(self._worker_index):
            self._hand_in(number)

    def _hand_in(self, number: int) -> None:
        self._store.barrier.hand_in(self._worker_index, number, pack(self._state()))

    def _state(self) -> dict[str, Any]:
        """This worker's snapshot."""
        state = {"collector": self._collector.state(), "board": self._scoreboard.worker_state(self._worker_index)}
        return state if self.memory is None else {**state, "memory": self.memory.state()}

    def _restore(self, state: dict[str, Any]) -> bool:
        """Resume from a snapshot; False: all episodes begin anew. The scoreboard has restored its own part."""
        if self.memory is not None:
            self.memory.restore(state["memory"])
        return self._collector.restore(state["collector"])
