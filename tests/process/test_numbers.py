"""Numbers that are not finite: refused before they reach what is shared, counted, rolled back, or the end of a run."""

import os
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.chaos.supervision import WatchedRun, nan_rewards
from tests.process.command import FOREVER


def test_spoilt_numbers_are_counted_and_reach_neither_parameters_nor_checkpoints(tmp_path: Path) -> None:
    target = ("--target-return", 250, "--eval-episodes", 20, "--eval-interval", 30_000)  # by then all have been spoilt
    saves = ("--checkpoint-interval", 0.05, "--keep-checkpoints", 999)
    with WatchedRun(tmp_path, "Spoilt", *target, *saves, variables={"SPOILT": "25"}) as run:
        assert not (loss := run.not_solved()), loss
    spoilt, faults = Counter(run.told("spoilt")), run.summary()["faults"]
    assert spoilt.total() >= 25 and len(spoilt) == 3  # two workers may spoil one at once
    assert {kind: faults[kind] for kind in (*spoilt, "rollbacks")} == {**spoilt, "rollbacks": 0}
    checkpoints = list((run.run_dir / "checkpoints").glob("*.safetensors"))
    assert len(checkpoints) > 3
    for checkpoint in checkpoints:
        for name, values in load_file(checkpoint).items():
            assert np.isfinite(values).all() or name == "board.rows", name  # there is no mean return at first


def test_rewards_that_are_never_finite_end_the_run_as_numerics(tmp_path: Path) -> None:
    arguments = (*FOREVER, "--workers", 1)
    with WatchedRun(tmp_path, "Broken", *arguments, variables={"BROKEN": "pay_infinity step"}) as run:
        assert run.wait(60) == 5
        assert "rewards that are not finite" in run.text
        assert run.death(run.working()["worker-0"])
    summary = run.summary()
    assert summary["status"] == "failed"
    assert summary["faults"]["rewards"] >= 100 and summary["updates"] == 0


def test_overwritten_parameters_are_set_back_and_the_run_goes_on(tmp_path: Path) -> None:
    with WatchedRun(tmp_path, "Ordered", *FOREVER, "--eval-episodes", 5) as run:
        run.until_all_work()
        for count in (1, 2):
            run.order("overwrite_parameters")
            run.until(lambda count=count: len(run.events("rolled-back")) >= count)  # type: ignore[misc]
            evaluations = len(run.events("evaluated"))
            run.until(lambda before=evaluations: len(run.events("evaluated")) > before + 2)  # type: ignore[misc]
        os.killpg(run.process.pid, signal.SIGINT)
        assert run.wait() == 130
    assert run.summary()["faults"]["rollbacks"] >= 2
    assert "rolled-back: the shared parameters were not finite" in run.text


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_thousand_spoilt_numbers(tmp_path: Path) -> None:
    outcome = nan_rewards(1000, tmp_path)
    assert outcome.survived == outcome.fired >= 1000, outcome
