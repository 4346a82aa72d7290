"""The keeper: what it saves and when, what it does where the disk refuses, and how it keeps the numbers finite."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from a3c.checkpoint import load_checkpoint, load_training
from a3c.config import CheckpointError, Config
from a3c.environments import describe
from shared.board import STOP, Board
from shared.store import LAST, SharedStore
from tests.unit.processes import wait_until
from workers import keeper as keeping
from workers.assembly import build_store
from workers.border import DiskError
from workers.keeper import ROLLBACKS, Judged, Keeper
from workers.monitor import Monitor, Progress
from workers.status import Evaluation

ENVIRONMENT = describe("CartPole-v1", 10)
EVALUATION = Evaluation(env_steps=0, updates=0, seconds=1.0, episodes=2, mean=9.5, std=0.5, min=9.0, max=10.0, seed=3)
OPTIONS = {"workers": 2, "hidden_sizes": (4,), "checkpoint_interval": 1e-9, "keep_checkpoints": 1, "eval_episodes": 1}


class Run:
    """A keeper's surroundings: a store that nobody pushes to unless the test does, and what is sent."""

    def __init__(self, path: Path, mode: str = "async"):
        self.config = Config.from_options({**OPTIONS, "mode": mode})
        self.board = Board(2)
        self.store: SharedStore = build_store(self.config, ENVIRONMENT, self.board, path / "lock")
        self.sent: list[tuple[str, Any]] = []
        self.path, self.checkpoints = path, path / "checkpoints"
        self.checkpoints.mkdir()
        self.keeper = Keeper(self.config, ENVIRONMENT, self.store, self.board, self.sent.append, self.checkpoints)

    def save(self, best: Judged | None = None) -> bool:
        return self.keeper.save(best, {"evaluations": 4})

    def judged(self) -> Judged:
        return Judged(self.store.snapshot(), EVALUATION)

    def push(self, worker: int = 0) -> None:
        size = len(self.store.parameters)
        self.store.push(worker, torch.ones(size), 0.1, 10, self.store.pull(torch.zeros(size)))

    def deposit(self, number: int, content: bytes = b"{}") -> None:
        for worker in range(2):
            self.store.deposits.put(worker, number, content)

    def disable_the_disk(self) -> None:
        """A file in the folder's place: even root cannot write there."""
        self.checkpoints.rename(self.path / "aside")
        self.checkpoints.touch()

    def saved(self) -> set[str]:
        return {path.name for path in self.checkpoints.glob("*.json") if path.stem in ("best", "latest")}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


# -- saving -----------------------------------------------------------------------------------------------------------


def test_a_save_waits_for_the_deposit_of_every_worker_and_is_asked_for_once(run: Run) -> None:
    assert not run.keeper.is_ready
    wait_until(lambda: run.keeper.ask_when_due() or run.store.deposit_due(0) > 0)
    run.keeper.ask_when_due()
    assert [run.store.deposit_due(worker) for worker in range(2)] == [1, 1]
    run.store.deposits.put(0, 1, b"{}")
    assert not run.keeper.is_ready
    run.store.deposits.put(1, 1, b"{}")
    assert run.keeper.is_ready
    assert run.save()
    assert not run.keeper.is_ready


def test_what_is_saved_is_the_capture_the_board_the_deposits_and_the_monitors_progress(run: Run) -> None:
    run.push()
    run.board.count("rollbacks")
    run.store.deposits.put(1, 1, b'{"of": "worker 1"}')
    assert run.save(run.judged())
    assert run.sent == [("checkpointed", "best"), ("checkpointed", "latest")]
    checkpoint, training = load_training(run.path)
    assert checkpoint.manifest["updates"] == 1
    assert training.facts == {"mode": "async", "workers": [None, {"of": "worker 1"}], "monitor": {"evaluations": 4}}
    assert torch.equal(training.tensors["parameters"], run.store.parameters)
    assert training.tensors["board.tallies"].tolist() == run.board.state()["tallies"].tolist()
    assert load_checkpoint(run.path).manifest["evaluation"]["mean"] == 9.5


@pytest.mark.parametrize("folder", ["missing", "a file"])
def test_what_the_disk_refuses_is_told_and_counted_and_can_be_saved_later(run: Run, folder: str) -> None:
    run.disable_the_disk()
    if folder == "missing":
        run.checkpoints.unlink()
    assert not run.save(run.judged())
    [(kind, message)] = run.sent
    assert kind == "unsaved"
    assert str(run.checkpoints) in message
    assert message.endswith("; the checkpoint before it stands")
    assert run.board.tally("failed_saves") == 1
    run.checkpoints.unlink(missing_ok=True)
    (run.path / "aside").rename(run.checkpoints)
    assert run.save(run.judged())
    assert run.saved() == {"best.json", "latest.json"}
    assert run.board.tally("failed_saves") == 1


def test_a_last_save_that_the_disk_refuses_is_an_error(run: Run) -> None:
    run.deposit(LAST)
    run.disable_the_disk()
    with pytest.raises(DiskError, match="the last checkpoint cannot be written"):
        run.keeper.save_end(None, {})
    with pytest.raises(DiskError, match="the solved policy cannot be written"):
        run.keeper.save_solved(run.judged())
    assert run.board.tally("failed_saves") == 2


def test_numbers_that_are_not_finite_are_not_saved_to_go_on_from_but_the_best_before_them_is(run: Run) -> None:
    best = run.judged()
    run.store.vectors()["moment.exp_avg"][3] = torch.nan
    assert run.save(best)
    assert run.saved() == {"best.json"}


def test_the_solution_is_best_and_latest(run: Run) -> None:
    run.push()
    solved = run.judged()
    run.push()
    run.keeper.save_solved(solved)
    assert run.saved() == {"best.json", "latest.json"}
    assert {load_checkpoint(run.checkpoints / name).manifest["updates"] for name in run.saved()} == {1}


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_where_all_workers_have_told_their_end_it_can_be_gone_on_from(tmp_path: Path, mode: str) -> None:
    run = Run(tmp_path, mode)
    run.deposit(LAST, b'{"last": true}')
    run.keeper.save_end(None, {"evaluations": 9})
    facts = load_training(run.path)[1].facts
    assert facts["workers"] == [{"last": True}] * 2
    assert facts["monitor"] == {"evaluations": 9}


def test_an_asynchronous_run_can_be_gone_on_from_though_a_worker_has_not_told_its_end(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "DEPOSIT_SECONDS", 0.01)
    run.store.deposits.put(1, LAST, b"{}")
    run.keeper.save_end(None, {})
    assert load_training(run.path)[1].facts["workers"] == [None, {}]


def test_a_sync_run_whose_workers_have_not_told_their_end_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "DEPOSIT_SECONDS", 0.01)
    run = Run(tmp_path, "sync")
    run.keeper.save_end(None, {})
    assert run.saved() == {"latest.json"}
    with pytest.raises(CheckpointError, match="holds a policy, but not what training needs"):
        load_training(run.path)
    before = (run.checkpoints / "latest.json").read_bytes()
    run.store.parameters[0] += 1
    run.keeper.save_end(run.judged(), {})
    assert run.saved() == {"best.json", "latest.json"}
    assert (run.checkpoints / "latest.json").read_bytes() == before


# -- finite -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def _guarding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look as often as the test wants one."""
    monkeypatch.setattr(keeping, "GUARD_SECONDS", 0.0)
    monkeypatch.setattr(keeping, "GUARD_SHARE", 1e9)


@pytest.mark.usefixtures("_guarding")
@pytest.mark.parametrize("name", ["parameters", "moment.exp_avg", "moment.exp_avg_sq"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_set_back_with_all_the_others(run: Run, name: str, value: float) -> None:
    run.push()
    run.keeper.guard()
    good = run.store.sha256()
    run.push()
    run.store.vectors()[name][5] = value
    run.keeper.guard()
    assert run.store.sha256() == good
    assert run.store.updates == 2
    assert run.board.tally("rollbacks") == 1
    assert run.sent == [("rolled-back", "the shared parameters were not finite: set back to the last copy that was")]


@pytest.mark.usefixtures("_guarding")
def test_finite_numbers_are_left_alone(run: Run) -> None:
    for _ in range(3):
        run.push()
        before = run.store.sha256()
        run.keeper.guard()
        assert run.store.sha256() == before
    assert not run.sent
    assert run.board.tally("rollbacks") == 0


def test_the_guard_looks_now_and_then(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "GUARD_SECONDS", 1e9)
    run.keeper.guard()
    run.store.parameters[0] = torch.nan
    run.keeper.guard()
    assert not run.sent


def test_where_nothing_was_ever_finite_there_is_nothing_to_go_back_to(run: Run) -> None:
    run.store.parameters[0] = torch.nan
    with pytest.raises(FloatingPointError, match="the shared parameters are not finite"):
        run.keeper.guard()


@pytest.mark.usefixtures("_guarding")
def test_a_run_that_is_set_back_again_and_again_has_diverged(run: Run) -> None:
    run.keeper.guard()
    for _ in range(ROLLBACKS):
        run.store.parameters[0] = torch.nan
        run.keeper.guard()
    run.store.parameters[0] = torch.nan
    with pytest.raises(FloatingPointError, match="again and again"):
        run.keeper.guard()
    assert run.board.tally("rollbacks") == ROLLBACKS


@pytest.mark.usefixtures("_guarding")
def test_what_happens_now_and_then_does_not_end_a_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "ROLLBACK_SECONDS", 0.0)
    run.keeper.guard()
    for _ in range(3 * ROLLBACKS):
        run.store.parameters[0] = torch.nan
        run.keeper.guard()
    assert run.board.tally("rollbacks") == 3 * ROLLBACKS


class Wire:
    """The monitor's end of the pipe to the supervisor: spoils the parameters as soon as something is evaluated."""

    def __init__(self, run: Run):
        self.run, self.kinds = run, []  # type: ignore[var-annotated]

    def send(self, message: tuple[str, Any]) -> None:
        self.kinds.append(message[0])
        if message[0] == "evaluated" and "rolled-back" not in self.kinds:
            self.run.store.parameters[0] = torch.nan
        if message[0] == "rolled-back":
            self.run.board.request(STOP)


def test_the_monitor_guards_as_it_goes(run: Run) -> None:
    wire = Wire(run)
    run.deposit(LAST)
    Monitor(run.config, ENVIRONMENT, run.store, run.board, wire, run.path, Progress()).watch()  # type: ignore[arg-type]
    assert wire.kinds.count("rolled-back") == 1
    assert wire.kinds.index("evaluated") < wire.kinds.index("rolled-back")
    assert torch.isfinite(run.store.parameters).all()
    assert run.saved() == {"best.json", "latest.json"}


def test_a_monitor_that_never_sees_finite_parameters_ends_the_run(run: Run) -> None:
    run.store.parameters[0] = torch.nan
    monitor = Monitor(run.config, ENVIRONMENT, run.store, run.board, Wire(run), run.path, Progress())  # type: ignore[arg-type]
    with pytest.raises(FloatingPointError):
        monitor.watch()
