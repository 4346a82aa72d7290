"""The checkpointer: what it saves and when, what it does where the disk refuses, how it keeps the numbers finite."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from a3c.checkpoint import load_checkpoint, load_training
from a3c.config import CheckpointError, Config, NumericsError
from a3c.environments import describe
from shared.checkpoint_barrier import LAST
from shared.memory import Notifier
from shared.scoreboard import CLOSE, STOP, Scoreboard
from shared.store import SharedStore, Snapshot
from tests.unit.processes import exit_code, forked, wait_until
from workers import checkpointer as module
from workers.checkpointer import ROLLBACKS, Checkpointer
from workers.processes.entry import DiskError
from workers.runs.evaluations import EvaluatedSnapshot, Evaluations, Progress, SharedRun
from workers.runs.records import Evaluation
from workers.training import build_store

ENVIRONMENT = describe("CartPole-v1", 10)
EVALUATION = Evaluation(env_steps=0, updates=0, seconds=1.0, episodes=2, mean=9.5, std=0.5, min=9.0, max=10.0, seed=3)
OPTIONS = {"workers": 2, "hidden_sizes": (4,), "checkpoint_interval": 1e-9, "keep_checkpoints": 1, "eval_episodes": 1}
LONG = 1e6  # seconds


class Run:
    """A checkpointer's surroundings: a store that nobody pushes to unless the test does, and what is sent."""

    def __init__(self, path: Path, mode: str = "async", **options: Any):
        self.config = Config.from_options({**OPTIONS, "mode": mode, **options})
        self.scoreboard = Scoreboard(self.config.workers)
        self.store: SharedStore = build_store(self.config, ENVIRONMENT, self.scoreboard)
        self.evaluations = Evaluations(Progress(evaluations=4))
        self.sent: list[tuple[str, Any]] = []
        self.notifier = Notifier()
        self.path, self.checkpoints = path, path / "checkpoints"
        self.checkpoints.mkdir(exist_ok=True)
        shared = (self.config, ENVIRONMENT, self.store, self.scoreboard, self.evaluations, self.notifier, path)
        self.checkpointer = Checkpointer(SharedRun(*shared), self.sent.append)

    @property
    def due(self) -> list[int]:
        return [self.store.barrier.due(worker) for worker in range(self.scoreboard.workers)]

    def pushed(self, worker: int = 0) -> Snapshot:
        """The snapshot after one more push."""
        size = len(self.store.parameters)
        self.store.push(worker, torch.ones(size), 0.1, 10, self.store.pull(torch.zeros(size)))
        return self.store.snapshot()

    def hand_in(self, *workers: int, number: int | None = None, content: bytes = b"{}") -> None:
        for worker in workers:
            if answer := number or self.store.barrier.due(worker):
                self.store.barrier.hand_in(worker, answer, content)

    def save(self) -> None:
        """A checkpoint as of now."""
        self.checkpointer.save_due()
        if self.store.queues:
            self.store.barrier.make_due()
        self.hand_in(*range(self.scoreboard.workers))
        self.checkpointer.save_due()

    def end(self, *workers: int, content: bytes = b"{}") -> None:
        """Some workers leave; the run is closed."""
        self.hand_in(*workers, number=LAST, content=content)
        self.scoreboard.request(CLOSE)
        self.checkpointer.watch()

    def judge(self, snapshot: Snapshot, mean: float = 9.5, **changed: Any) -> None:
        """The monitor has found a better policy."""
        evaluation = dataclasses.replace(EVALUATION, mean=mean, **changed)
        self.evaluations.note(best=EvaluatedSnapshot(snapshot, evaluation))
        self.evaluations.note(progress=dataclasses.replace(self.evaluations.progress(), best=evaluation))

    def disable_the_disk(self) -> None:
        """A file in the folder's place: even root cannot write there."""
        self.checkpoints.rename(self.path / "aside")
        self.checkpoints.touch()

    def enable_the_disk(self) -> None:
        self.checkpoints.unlink(missing_ok=True)
        (self.path / "aside").rename(self.checkpoints)

    def saved(self) -> set[str]:
        return {path.name for path in self.checkpoints.glob("*.json") if path.stem in ("best", "latest")}

    def manifest(self, name: str) -> dict[str, Any]:
        return load_checkpoint(self.checkpoints / f"{name}.json").manifest

    @contextmanager
    def watching(self) -> Iterator[BaseProcess]:
        """The checkpointer at work in a process of its own; what it sends is not seen here."""
        with forked(self.checkpointer.watch) as process:
            yield process


def snapshots(run: Run) -> list[bytes | None]:
    """The workers' snapshots in the latest checkpoint."""
    tensors = load_training(run.path)[1].tensors
    stored = [tensors.get(f"worker.{index}") for index in range(run.scoreboard.workers)]
    return [None if tensor is None else tensor.numpy().tobytes() for tensor in stored]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


# -- when -------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_requested_once_and_saved_when_every_worker_has_handed_in(run: Run) -> None:
    for _ in range(3):
        run.checkpointer.save_due()
        assert run.due == [1, 1]
    run.hand_in(0)
    run.checkpointer.save_due()
    assert not run.sent
    run.hand_in(1)
    run.checkpointer.save_due()
    assert run.sent == [("checkpointed", "latest")]
    run.checkpointer.save_due()
    assert run.due == [2, 2]


def test_between_two_checkpoints_an_interval_passes(tmp_path: Path) -> None:
    run = Run(tmp_path, checkpoint_interval=0.1)
    with run.watching():
        for number in (1, 2, 3):
            wait_until(lambda number=number: run.due == [number, number])  # type: ignore[misc]
            run.hand_in(0, 1)
            wait_until(lambda: "latest.json" in run.saved())
    rare = Run(tmp_path, checkpoint_interval=LONG)
    rare.checkpointer.save_due()
    assert rare.due == [0, 0]


def test_a_checkpoint_that_is_asked_for_does_not_wait_for_the_interval(tmp_path: Path) -> None:
    run = Run(tmp_path, checkpoint_interval=LONG)
    run.scoreboard.request_save()
    run.save()
    assert run.sent == [("checkpointed", "latest")]
    run.save()
    assert run.due == [0, 0]
    assert len(run.sent) == 1


def test_one_that_is_asked_for_while_another_is_under_way_follows_it(tmp_path: Path) -> None:
    run = Run(tmp_path, checkpoint_interval=LONG)
    run.scoreboard.request_save()
    run.checkpointer.save_due()
    run.scoreboard.request_save()
    run.hand_in(0, 1)
    run.checkpointer.save_due()
    assert len(run.sent) == 1
    run.save()
    assert len(run.sent) == 2


@pytest.mark.parametrize("mode", ["async", "locked"])
def test_where_workers_are_on_their_own_a_straggler_is_waited_for_some_seconds(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, mode)
    run.store.barrier.hand_in(0, 0, b"of an earlier sitting")
    run.checkpointer.save_due()
    run.hand_in(1, content=b"of now")
    monkeypatch.setattr(module, "STRAGGLER_SECONDS", LONG)
    run.checkpointer.save_due()
    assert not run.sent
    monkeypatch.setattr(module, "STRAGGLER_SECONDS", 0.0)
    run.checkpointer.save_due()
    assert run.sent == [("checkpointed", "latest")]
    assert snapshots(run) == [b"of an earlier sitting", b"of now"]
    run.checkpointer.save_due()
    run.hand_in(0)  # the straggler answers what was requested since
    assert run.due == [0, 2]


def test_in_sync_a_checkpoint_is_of_one_moment_and_waits_for_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STRAGGLER_SECONDS", 0.0)
    run = Run(tmp_path, "sync")
    run.checkpointer.save_due()
    with forked(run.pushed, 1) as other:
        run.pushed(0)
        assert exit_code(other) == 0
    run.hand_in(0)
    run.checkpointer.save_due()
    assert not run.sent
    run.hand_in(1)
    run.checkpointer.save_due()
    assert run.manifest("latest")["updates"] == 1


# -- what -------------------------------------------------------------------------------------------------------------


def test_what_is_saved_is_the_capture_the_board_the_snapshots_and_the_monitors_progress(run: Run) -> None:
    run.judge(run.pushed())
    run.scoreboard.count("rollbacks")
    run.checkpointer.save_due()
    run.hand_in(0, 1, content=b"of a worker")
    run.store.barrier.forget(0)
    run.store.barrier.hand_in(0, 1, b"of its successor")
    run.checkpointer.save_due()
    assert run.sent == [("checkpointed", "best"), ("checkpointed", "latest")]
    checkpoint, training = load_training(run.path)
    assert checkpoint.manifest["updates"] == 1
    assert training.facts["mode"] == "async"
    assert snapshots(run) == [b"of its successor", b"of a worker"]
    assert Progress.of(training.facts["monitor"]) == Progress(evaluations=4, best=EVALUATION)
    assert torch.equal(training.tensors["parameters"], run.store.parameters)
    assert training.tensors["board.tallies"].tolist() == run.scoreboard.state()["tallies"].tolist()
    assert load_checkpoint(run.path).manifest["evaluation"]["mean"] == 9.5


def test_rows_that_a_checkpoint_counts_on_may_have_been_deleted(run: Run) -> None:
    run.evaluations.note(progress=Progress(rows=3))
    run.save()
    assert run.sent == [("checkpointed", "latest")]


def test_best_is_replaced_by_better_ones_alone_in_this_sitting_and_the_next(tmp_path: Path) -> None:
    for means, kept in (((5.0, 4.0, 7.0, 7.0), 7.0), ((3.0, 6.0), 7.0), ((7.5, 1.0), 7.5)):
        run = Run(tmp_path)
        for mean in means:
            run.judge(run.pushed(), mean)
            run.end(0, 1)
        assert run.manifest("best")["evaluation"]["mean"] == kept


def test_numbers_that_are_not_finite_are_not_saved_to_resume_from_but_the_best_before_them_is(run: Run) -> None:
    run.judge(run.pushed())
    run.store.vectors()["moment.exp_avg"][3] = torch.nan
    run.save()
    assert run.saved() == {"best.json"}


@pytest.mark.parametrize("updates_since", [0, 1])
def test_the_evaluation_of_an_interrupted_runs_end_is_in_the_checkpoint_of_the_same_updates(
    updates_since: int, run: Run
) -> None:
    snapshot = run.pushed()
    run.evaluations.note(last=EvaluatedSnapshot(snapshot, dataclasses.replace(EVALUATION, updates=1)))
    for _ in range(updates_since):
        run.pushed()
    run.end(0, 1)
    manifest = run.manifest("latest")
    assert manifest["updates"] == 1 + updates_since
    assert (manifest["evaluation"] is None) == bool(updates_since)
    load_training(run.path)  # can be resumed all the same


# -- disks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["missing", "a file"])
def test_what_the_disk_refuses_is_told_and_counted_and_saved_at_the_next_interval(run: Run, folder: str) -> None:
    run.judge(run.pushed())
    run.disable_the_disk()
    if folder == "missing":
        run.checkpoints.unlink()
    run.save()
    [(kind, message)] = run.sent
    assert kind == "unsaved"
    assert str(run.checkpoints) in message
    assert message.endswith("; the checkpoint before it stands")
    assert run.scoreboard.faults()["failed_saves"] == 1
    run.enable_the_disk()
    run.save()
    assert run.saved() == {"best.json", "latest.json"}
    assert run.scoreboard.faults()["failed_saves"] == 1


@pytest.mark.parametrize("verification", [False, True])
def test_a_last_save_that_the_disk_refuses_is_an_error(run: Run, verification: bool) -> None:
    run.judge(run.pushed(), mean=500.0, verification=verification)
    run.disable_the_disk()
    with pytest.raises(DiskError, match="the last checkpoint cannot be written"):
        run.end(0, 1)


def test_an_end_that_the_disk_refused_before_the_run_was_closed_is_saved_then(run: Run) -> None:
    run.pushed()
    run.hand_in(0, 1, number=LAST)
    run.disable_the_disk()
    with run.watching() as process:
        wait_until(lambda: run.scoreboard.faults()["failed_saves"] == 1)
        run.enable_the_disk()
        run.scoreboard.request(CLOSE)
        assert exit_code(process) == 0
    assert run.manifest("latest")["updates"] == 1


# -- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_where_all_workers_have_handed_in_their_last_the_end_can_be_resumed(tmp_path: Path, mode: str) -> None:
    run = Run(tmp_path, mode)
    run.end(0, 1, content=b"last")
    assert snapshots(run) == [b"last"] * 2


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_the_end_is_saved_as_soon_as_it_is_there_while_others_are_still_busy(tmp_path: Path, mode: str) -> None:
    run = Run(tmp_path, mode, checkpoint_interval=LONG)
    with run.watching() as process:
        run.hand_in(0, 1, number=LAST)
        wait_until(lambda: run.saved() == {"latest.json"})
        assert process.is_alive()
        run.scoreboard.request(CLOSE)
        assert exit_code(process) == 0
    load_training(run.path)


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_a_solution_is_best_and_latest_as_soon_as_it_is_known(tmp_path: Path, mode: str) -> None:
    run = Run(tmp_path, mode, workers=1, checkpoint_interval=LONG)
    solution = run.pushed()
    run.pushed()
    with run.watching() as process:
        run.judge(solution, mean=500.0, verification=True)
        run.notifier.notify()
        wait_until(lambda: run.saved() == {"best.json", "latest.json"})
        assert {run.manifest(name)["updates"] for name in ("best", "latest")} == {1}
        run.hand_in(0, number=LAST)
        run.scoreboard.request(CLOSE)
        assert exit_code(process) == 0
    assert {run.manifest(name)["updates"] for name in ("best", "latest")} == {1}


def test_a_good_evaluation_that_was_not_verified_is_no_solution(run: Run) -> None:
    run.judge(run.pushed(), mean=500.0)
    run.pushed()
    run.end(0, 1)
    assert [run.manifest(name)["updates"] for name in ("best", "latest")] == [1, 2]


def test_an_asynchronous_run_can_be_resumed_though_a_worker_has_handed_in_nothing(run: Run) -> None:
    run.end(1)
    assert snapshots(run) == [None, b"{}"]


def test_a_sync_run_whose_workers_did_not_hand_in_their_last_keeps_what_it_has(tmp_path: Path) -> None:
    run = Run(tmp_path, "sync")
    run.end(1)
    assert run.saved() == {"latest.json"}
    with pytest.raises(CheckpointError, match="holds a policy, but not what training needs"):
        load_training(run.path)
    before = (run.checkpoints / "latest.json").read_bytes()
    run.store.parameters[0] += 1
    run.judge(run.store.snapshot())
    run.end(1)
    assert run.saved() == {"best.json", "latest.json"}
    assert (run.checkpoints / "latest.json").read_bytes() == before


def test_a_successor_saves_the_end_that_its_predecessor_did_not_live_to_save(tmp_path: Path) -> None:
    run = Run(tmp_path, checkpoint_interval=LONG)
    with run.watching() as process:
        wait_until(lambda: run.scoreboard.beats(run.scoreboard.checkpointer) > 0)
        process.kill()
        assert exit_code(process) is not None
    run.pushed()
    run.end(0, 1)
    assert run.manifest("latest")["updates"] == 1


# -- finite -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def _guarding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look as often as the test wants one."""
    monkeypatch.setattr(module, "GUARD_SECONDS", 0.0)
    monkeypatch.setattr(module, "GUARD_SHARE", 1e9)


@pytest.mark.usefixtures("_guarding")
@pytest.mark.parametrize("name", ["parameters", "moment.exp_avg", "moment.exp_avg_sq"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_set_back_with_all_the_others(run: Run, name: str, value: float) -> None:
    run.pushed()
    run.checkpointer.guard()
    good = run.store.sha256()
    run.pushed()
    run.store.vectors()[name][5] = value
    run.checkpointer.guard()
    assert run.store.sha256() == good
    assert run.store.updates == 2
    assert run.scoreboard.faults()["rollbacks"] == 1
    assert run.sent == [("rolled-back", "the shared parameters were not finite: set back to the last copy that was")]


@pytest.mark.usefixtures("_guarding")
def test_finite_numbers_are_left_alone(run: Run) -> None:
    for _ in range(3):
        run.pushed()
        before = run.store.sha256()
        run.checkpointer.guard()
        assert run.store.sha256() == before
    assert not run.sent
    assert run.scoreboard.faults()["rollbacks"] == 0


def test_the_guard_looks_now_and_then(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GUARD_SECONDS", 1e9)
    run.checkpointer.guard()
    run.store.parameters[0] = torch.nan
    run.checkpointer.guard()
    assert not run.sent


@pytest.mark.usefixtures("_guarding")
def test_a_run_that_is_set_back_again_and_again_has_diverged(run: Run) -> None:
    run.checkpointer.guard()
    for _ in range(ROLLBACKS):
        run.store.parameters[0] = torch.nan
        run.checkpointer.guard()
    run.store.parameters[0] = torch.nan
    with pytest.raises(NumericsError, match="again and again"):
        run.checkpointer.guard()
    assert run.scoreboard.faults()["rollbacks"] == ROLLBACKS


@pytest.mark.usefixtures("_guarding")
def test_what_happens_now_and_then_does_not_end_a_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROLLBACK_SECONDS", 0.0)
    run.checkpointer.guard()
    for _ in range(3 * ROLLBACKS):
        run.store.parameters[0] = torch.nan
        run.checkpointer.guard()
    assert run.scoreboard.faults()["rollbacks"] == 3 * ROLLBACKS


def test_it_guards_as_it_goes_also_while_the_workers_are_stopped(run: Run) -> None:
    with run.watching():
        for rollbacks, request in ((1, None), (2, STOP)):
            beats = run.scoreboard.beats(run.scoreboard.checkpointer)
            wait_until(lambda beats=beats: run.scoreboard.beats(run.scoreboard.checkpointer) > beats + 2)  # type: ignore[misc]
            if request is not None:
                run.scoreboard.request(request)
            run.store.parameters[0] = torch.nan
            wait_until(lambda rollbacks=rollbacks: run.scoreboard.faults()["rollbacks"] == rollbacks)  # type: ignore[misc]
            assert torch.isfinite(run.store.parameters).all()


def test_where_nothing_was_ever_finite_the_run_ends(run: Run) -> None:
    run.store.parameters[0] = torch.nan
    with pytest.raises(NumericsError, match="the shared parameters are not finite"):
        run.checkpointer.watch()
