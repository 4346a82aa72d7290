"""From a checkpoint to the shared state of a run that resumes from it, with other options too."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from a3c.checkpoint import Training, save_checkpoint
from a3c.config import Config
from a3c.environments import describe
from a3c.networks import build
from shared.scoreboard import Scoreboard
from shared.store import SharedStore
from workers.runs.evaluations import Progress
from workers.runs.program import versions
from workers.runs.resume import Resumed, load
from workers.training import build_store

ENVIRONMENT = describe("CartPole-v1")
SHAPES = {"async": {"workers": 2}, "sync": {"workers": 2, "mode": "sync"}, "one worker": {"workers": 1}}


def config_of(shape: str) -> Config:
    return Config.from_options({"eval_interval": 10, "hidden_sizes": (4,), **SHAPES[shape]})


def new_store(shape: str) -> tuple[SharedStore, Scoreboard]:
    scoreboard = Scoreboard(config_of(shape).workers)
    return build_store(config_of(shape), ENVIRONMENT, scoreboard), scoreboard


def save(store: SharedStore, scoreboard: Scoreboard, shape: str, progress: Progress, path: Path) -> None:
    (path / "checkpoints").mkdir()
    tensors = store.capture(lambda: progress.released).tensors
    tensors = tensors | {f"board.{name}": tensor for name, tensor in scoreboard.state().items()}
    facts: dict[str, Any] = {"monitor": dataclasses.asdict(progress)}
    told = {"env_steps": store.env_steps, "updates": store.updates}
    model = build(config_of(shape), ENVIRONMENT)
    save_checkpoint(path / "checkpoints", "latest", model, {**ENVIRONMENT.identity(), **told}, Training(tensors, facts))


def resume(path: Path, shape: str) -> Resumed:
    content = {"environment": ENVIRONMENT.description(), "versions": versions()}
    return load(path, config_of(shape), ENVIRONMENT, content, any_version=False, warn=pytest.fail)


def test_what_was_saved_while_a_policy_was_evaluated_holds_nothing_against_it(tmp_path: Path) -> None:
    progress = Progress(released=3, evaluations=7, rows=5, tries=2, failures=4)
    save(*new_store("sync"), "sync", progress, tmp_path)
    assert resume(tmp_path, "sync").progress == Progress(released=3, evaluations=7, rows=5)


@pytest.mark.parametrize("after", ["one worker", "sync"])
@pytest.mark.parametrize("before", SHAPES)
def test_what_a_queue_has_judged_is_no_count_of_the_queue_of_a_run_that_had_none(
    before: str, after: str, tmp_path: Path
) -> None:
    """Snapshots were judged in one sitting, the next had no queue, and now there is one again."""
    save(*new_store(before), before, Progress(released=5), tmp_path)
    resumed = resume(tmp_path, after)
    store, scoreboard = new_store(after)
    resumed.restore(store, scoreboard)
    store.release(resumed.progress.released)  # as the monitor begins
    assert resumed.progress.released == (0 if before == "async" else 5)
    if before == "async":
        store._totals.array[:] = 10
        store.enqueue_due(0, lambda: None)
        snapshot = store.next_snapshot(0)
        assert snapshot is not None
        assert torch.equal(snapshot.parameters, store.parameters)
