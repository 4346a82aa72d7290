"""`--vector envpool`: EnvPool's batches in training, Gymnasium's own environments in evaluations."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a3c.environments import describe
from tests.process.command import run_here
from workers import train

needs_envpool = pytest.mark.skipif(
    find_spec("envpool") is None, reason="EnvPool (740 MB) is not installed: its batches ARE NOT TESTED"
)
SHORT: dict[str, Any] = {"max_env_steps": 4000, "eval_episodes": 5, "dashboard": "off", "vector": "envpool"}


@pytest.mark.skipif(find_spec("envpool") is not None, reason="EnvPool is installed")
def test_where_it_is_missing_one_line_says_how_to_install_it(tmp_path: Path) -> None:
    code, output = run_here("--env", "Acrobot-v1", "--vector", "envpool", "--run-dir", tmp_path / "run")
    assert code == 2
    assert output.strip().endswith(
        'vector: needs the packages of the extra "envpool": pip install -c constraints.txt -e ".[envpool]"'
    )


@needs_envpool
@pytest.mark.parametrize("env", ["Acrobot-v1", "Pendulum-v1"])
def test_a_batch_steps_and_resets_itself_as_ours_do(env: str) -> None:
    """Seven steps to the time limit, then one that resets and rewards nothing."""
    from a3c.pool import pooled

    environment = pooled(describe(env, 7), 3)
    batch = environment.make(3, training=True)
    observations, _ = batch.reset(seed=5)
    assert observations.shape == (3, *environment.observation.shape)
    again, _ = batch.reset(seed=5)
    np.testing.assert_array_equal(observations, again)
    actions = np.zeros((3, *environment.head.action_shape), environment.head.action_dtype)
    ended, rewarded = [], []
    for _ in range(16):
        _, rewards, terminated, truncated, _ = batch.step(actions)
        ended.append(bool(truncated[0]))
        rewarded.append(float(rewards[0]))
        assert not terminated.any()
    batch.close()
    assert [t for t, end in enumerate(ended) if end] == [6, 14]
    assert rewarded[7] == rewarded[15] == 0 and all(rewarded[:7])


@needs_envpool
def test_sync_repeats_itself_and_a_resumed_run_begins_new_episodes(tmp_path: Path) -> None:
    options = {**SHORT, "env": "Acrobot-v1", "mode": "sync", "workers": 2}
    digests = {train(run_dir=tmp_path / name, **options).state_sha256 for name in ("one", "two")}
    assert len(digests) == 1
    code, output = run_here("resume", tmp_path / "one", "--max-env-steps", 6000)
    assert code == 0, output
    events = (tmp_path / "one" / "events.jsonl").read_text()
    assert "EnvPool" in "".join(json.loads(line)["message"] for line in events.splitlines() if '"setting"' in line)


@needs_envpool
def test_what_envpool_has_not_is_one_line(tmp_path: Path) -> None:
    for words, said in (
        (("--env", "tests.process.spaces_to_train:Mixed"), "EnvPool has no"),
        (("--env", "FrozenLake-v1"), "fails as an EnvPool batch"),
        (("--env", "Acrobot-v1", "--wrappers", "gymnasium.wrappers:NormalizeReward"), "neither --env-kwargs nor"),
    ):
        code, output = run_here(*words, "--vector", "envpool", "--run-dir", tmp_path / "run")
        assert code == 2 and said in output and len(output.strip().splitlines()) == 1, output
