"""A worker's network on a GPU: the same gradients, from and to host memory. Skipped, and said so, without a GPU."""

from typing import Any

import numpy as np
import pytest
import torch

from a3c.config import ConfigError
from a3c.device import device_of
from tests.unit.test_recurrent import Run, config_of

HAS_GPU = torch.cuda.is_available()
needs_gpu = pytest.mark.skipif(not HAS_GPU, reason="there is no GPU here: --device cuda is not tested")


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused_and_auto_is_the_cpu() -> None:
    assert device_of("auto") == device_of("cpu") == "cpu"
    with pytest.raises(ConfigError, match="device: torch finds no GPU here"):
        device_of("cuda")


@needs_gpu
@pytest.mark.parametrize(
    "options",
    [
        {"objective": "a2c", "recurrent": None, "recurrent_size": None},
        {"objective": "a2c"},
        {"objective": "ppo", "recurrent": "gru"},
        {"objective": "ppo", "recurrent": None, "recurrent_size": None, "normalize_observations": True},
    ],
)
def test_gradients_on_a_gpu_are_those_of_the_cpu(options: dict[str, Any]) -> None:
    runs = [Run(config_of(gradients="autograd", device=device, **options)) for device in ("cpu", "cuda")]
    for _ in range(3):
        rollouts = [run.collect() for run in runs]
        found = []
        for run in runs:
            run.learner._rng, run.learner._acted = np.random.default_rng(5), []  # it is the other one that has acted
            found.append(run.gradients(rollouts[0]))
        for one, other in zip(*found, strict=True):
            assert np.abs(one).max() > 0
            np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-4)
        for run in runs:
            run.vector.add_(run.gradient, alpha=-0.1)  # as a pull does: the host's vector alone
