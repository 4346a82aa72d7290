"""Learning for real: the default settings, on seeds that no setting was chosen on."""

from pathlib import Path

import pytest

from a3c import evaluate, load_checkpoint, load_policy
from a3c.environments import describe
from workers import train


def solves(run_dir: Path, seed: int, **options: object) -> None:
    summary = train(seed=seed, run_dir=run_dir, dashboard="off", **options)
    assert summary.status == "solved", summary
    assert summary.checkpoint is not None
    environment = describe(load_checkpoint(run_dir).env_id)
    # A third evaluation, scalar environments this time, seeds of its own: the checkpoint really holds that policy.
    scalar = evaluate(load_policy(run_dir).actions, environment, episodes=10, seed=123_456)
    assert scalar is not None
    assert scalar.returns.mean() > 400


@pytest.mark.parametrize("seed", [1001, pytest.param(1002, marks=pytest.mark.long)])
def test_the_default_settings_solve_cartpole(tmp_path: Path, seed: int) -> None:
    solves(tmp_path / "run", seed)


@pytest.mark.parametrize(
    "options", [{"workers": 8}, {"workers": 2, "envs_per_worker": 4, "n_steps": 16, "gradients": "autograd"}], ids=str
)
def test_other_shapes_solve_cartpole_too(tmp_path: Path, options: dict[str, object]) -> None:
    solves(tmp_path / "run", 1003, **options)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(2000, 2020))
def test_every_seed_solves_cartpole(tmp_path: Path, seed: int) -> None:
    solves(tmp_path / "run", seed)
