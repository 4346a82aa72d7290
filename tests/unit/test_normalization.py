"""Running statistics: their sums over workers, and the layer that applies them."""

from typing import Any

import numpy as np
import pytest
import torch

from a3c.config import Config
from a3c.heads import Categorical
from a3c.normalization import CLIP, Normalizer, RunningStatistics, combined, row_size
from a3c.rollouts import Rollout
from a3c.spaces import ObservationSpec
from shared.statistics import SharedStatistics

SIZE, STEPS, COUNT = 3, 7, 2


def random_rollout(rng: np.random.Generator, offset: float) -> Rollout:
    rollout = Rollout.empty(STEPS, COUNT, ObservationSpec((SIZE,)), Categorical(2))
    rollout.observations[:] = rng.normal(offset, [1, 2, 30], rollout.observations.shape)
    rollout.rewards[:] = rng.normal(1, 1, rollout.rewards.shape)
    rollout.valid[:] = rng.random(rollout.valid.shape) < 0.9
    return rollout


def test_rows_of_all_workers_give_the_statistics_of_all_their_steps() -> None:
    rng, config = np.random.default_rng(0), Config(envs_per_worker=COUNT)
    rows, seen, returns = [], list[Any](), list[float]()
    for worker in range(3):
        statistics = RunningStatistics(config, SIZE)
        running = np.zeros(COUNT)
        for _ in range(5):
            rollout = random_rollout(rng, 1000.0 * worker)
            ended = rng.random(rollout.valid.shape) < 0.2
            statistics.update(rollout, ended)
            seen.append(rollout.observations[:-1][rollout.valid])
            for t in range(STEPS):
                running = running * config.loss.gamma + rollout.rewards[t]
                returns += running[rollout.valid[t]].tolist()
                running[ended[t]] = 0
        rows.append(statistics.row)
    result, everything = combined(np.array(rows), SIZE), np.concatenate(seen).astype(np.float64)
    np.testing.assert_allclose(result[:SIZE], everything.mean(0), rtol=1e-5)
    np.testing.assert_allclose(result[SIZE:-1], 1 / everything.std(0), rtol=1e-5)
    assert result[-1] == pytest.approx(max(np.std(returns), np.abs(returns).max() / 4), rel=1e-5)


def test_without_steps_nothing_is_scaled() -> None:
    result = combined(np.zeros((2, row_size(SIZE))), SIZE)
    assert result.tolist() == [0, 0, 0, 1, 1, 1, 1]
    observations = torch.tensor([[1.0, -2.0, 3.0]])
    assert torch.equal(Normalizer(SIZE)(observations), observations)


def test_a_rare_return_is_no_larger_than_four_units() -> None:
    statistics = RunningStatistics(Config(envs_per_worker=1), 1)
    rollout = Rollout.empty(1000, 1, ObservationSpec((1,)), Categorical(2))
    rollout.valid[:], rollout.rewards[-1] = True, 1.0
    statistics.update(rollout, np.zeros((1000, 1), np.bool_))
    assert combined(statistics.row[None], 1)[-1] == pytest.approx(0.25)


def test_the_closed_form_normalises_as_the_module_does() -> None:
    rng, normalizer = np.random.default_rng(0), Normalizer(SIZE)
    normalizer.statistics.data[:] = torch.from_numpy(rng.uniform(0.1, 2, 2 * SIZE + 1).astype(np.float32))
    observations = rng.normal(0, 20, (9, SIZE)).astype(np.float32)
    closed = normalizer.closed_form(observations, np.empty_like(observations))
    np.testing.assert_allclose(closed, normalizer(torch.from_numpy(observations)), rtol=1e-6)
    assert np.abs(closed).max() == CLIP


def test_a_row_is_read_as_it_was_written_last() -> None:
    shared = SharedStatistics(2, row_size(1), lambda rows: rows.sum(0)[:1].astype(np.float32), slice(1, 2))
    for number in range(5):
        shared.write(1, np.full(row_size(1), float(number)))
        assert shared.row(1).tolist() == [number] * row_size(1)
        assert not shared.row(0).any()
    parameters = np.zeros(3, np.float32)
    shared.write_into(parameters)
    assert parameters.tolist() == [0, 4, 0]
    again = SharedStatistics(1, row_size(1), lambda rows: rows[0, :1].astype(np.float32), slice(0, 1))
    again.restore(shared.rows()[::-1])
    assert again.row(0).tolist() == [4] * row_size(1)
