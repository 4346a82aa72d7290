"""A worker's place in the run: its rows of the board and its deposit, which outlive the process that fills them."""

import json
import time
from typing import Any

from a3c.gradients import RolloutStatistics
from a3c.rollouts import Collector
from a3c.stopwatch import Stopwatch
from shared.board import LATEST, SUMS, Board
from shared.phases import PHASES
from shared.store import LAST, SharedStore

CPU_INTERVAL = 0.05  # seconds between two looks at the CPU time: the kernel takes its time to answer
# Rollouts dropped in a row, over so many seconds: then nothing finite will come any more.
DROPS_IN_A_ROW, DROP_SECONDS = 100, 2.0


class Place:
    """What a worker's process takes over of its predecessor's, goes on with, and leaves to its successor.

    A new run finds zeros here. A process that replaces a dead one finds its counts: its episodes under way, and its
    generators, died with it. In a resumed run there is a deposit, and everything goes on where it was.
    """

    def __init__(self, worker_index: int, store: SharedStore, board: Board, collector: Collector, watch: Stopwatch):
        self._worker_index, self._store, self._board, self._collector = worker_index, store, board, collector
        self._seconds = watch.seconds
        row = board.row(worker_index)
        self._sums, self._latest = row[: len(SUMS)], row[len(SUMS) :]
        before = dict(zip(LATEST, self._latest.tolist(), strict=True))
        self._seconds.update((phase, before[f"{phase}_seconds"]) for phase in PHASES)
        self._take_over(before)
        self._started = before["started"] or time.monotonic()
        self._staleness_max = int(before["staleness_max"])
        self._earlier_cpu_seconds = before["cpu_seconds"]
        self._cpu_seconds, self._cpu_due = self._earlier_cpu_seconds + time.process_time(), 0.0
        self._episodes, self._mean_return = collector.episodes, before["mean_return"]
        self._drops, self._first_drop = 0, 0.0
        self._latest[LATEST.index("started")] = self._started
        self._latest[LATEST.index("env_steps")] = collector.env_steps  # of the last push, which may not be in the row
        watch.start()

    def _take_over(self, before: dict[str, float]) -> None:
        collector = self._collector
        deposit = self._store.deposits.get(self._worker_index)
        if deposit is not None:
            state = json.loads(deposit)
            if not collector.restore(state["collector"]):
                self._board.count_dropped(self._worker_index, "episodes")
        else:
            collector.episodes, collector.return_sum = int(before["episodes"]), before["return_sum"]
        collector.env_steps = max(collector.env_steps, self._store.env_steps_of(self._worker_index))

    def publish(self, statistics: RolloutStatistics, norm: float, staleness: int, learning_rate: float) -> None:
        """Count one update, and deposit one's state where that is asked for."""
        collector = self._collector
        if collector.episodes != self._episodes and collector.recent_returns:
            self._episodes = collector.episodes
            self._mean_return = sum(collector.recent_returns) / len(collector.recent_returns)
        self._staleness_max = max(self._staleness_max, staleness)
        now = time.monotonic()
        if now >= self._cpu_due:
            self._cpu_seconds = self._earlier_cpu_seconds + time.process_time()
            self._cpu_due = now + CPU_INTERVAL
        policy_loss = statistics.terms.policy_loss
        self._sums += (1, *statistics.terms, norm, policy_loss * policy_loss, *statistics[1:])
        self._latest[:] = (
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
        self._board.count_staleness(self._worker_index, staleness)
        self._drops = 0
        if number := self._store.deposit_due(self._worker_index):
            self._deposit(number)

    def drop(self, fault: str) -> None:
        """Count a rollout that must not reach the shared state, and begin new episodes where its own are spoilt.

        Raises:
            FloatingPointError: for long there has been nothing else.
        """
        self._board.count_dropped(self._worker_index, fault)
        now = time.monotonic()
        self._first_drop = self._first_drop if self._drops else now
        self._drops += 1
        if self._drops >= DROPS_IN_A_ROW and now - self._first_drop > DROP_SECONDS:
            raise FloatingPointError(
                f"{self._drops} rollouts in a row had {fault} that are not finite; lower learning_rate, or check the "
                "environment's observations and rewards"
            )
        if fault != "gradients":
            self._collector.restart_episodes()

    def leave(self) -> None:
        """Deposit one's state for the last time: after this no other is asked for."""
        self._deposit(LAST)

    def _deposit(self, number: int) -> None:
        state = self._collector.state()
        content = self._encode(state)
        if len(content) > self._store.deposits.size:  # too long to replay: what goes on from it begins new episodes
            content = self._encode({**state, "environments": None, "observations": None})
        self._store.deposits.put(self._worker_index, number, content)

    def _encode(self, collector: dict[str, Any]) -> bytes:
        state = {"collector": collector, "board": self._board.worker_state(self._worker_index)}
        return json.dumps(state, allow_nan=False).encode()
