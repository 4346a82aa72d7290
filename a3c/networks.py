"""The two-head actor-critic."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from a3c.config import Config
from a3c.environments import EnvironmentSpec


class ActorCritic(nn.Module):
    """A trunk of ReLU layers shared ("tied") by a policy head and a value head (Mnih et al. 2016, section 4).

    Args:
        observation_size: length of one observation vector.
        action_count: number of discrete actions, A.
        hidden_sizes: units of each trunk layer.
        value_scale: unit of the value head; values come out in units of return.
        action_start: the environment's number of its first action, which the network does not see.
    """

    def __init__(
        self,
        observation_size: int,
        action_count: int,
        hidden_sizes: Sequence[int],
        value_scale: float = 1.0,
        action_start: int = 0,
    ):
        super().__init__()
        sizes = [observation_size, *hidden_sizes]
        self.trunk = nn.ModuleList(_linear(fan_in, fan_out) for fan_in, fan_out in pairwise(sizes))
        self.policy_head = _linear(sizes[-1], action_count)
        self.value_head = _linear(sizes[-1], 1)
        self.value_scale, self.action_start = value_scale, action_start
        self.observation_size, self.action_count, self.hidden_sizes = observation_size, action_count, list(hidden_sizes)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [..., A] and values [...] of observations [..., O]."""
        hidden = observations
        for layer in self.trunk:
            hidden = torch.relu(layer(hidden))
        return self.policy_head(hidden), self.value_head(hidden).squeeze(-1) * self.value_scale


def initialize(model: ActorCritic, seed: int) -> None:
    """Orthogonal weights and zero biases: gain sqrt(2) in the trunk, 0.01 for the policy, 1 for the value.

    The small policy gain starts every run from a nearly uniform policy (Andrychowicz et al. 2021, C57). The same seed
    gives the same bits however many threads torch may use, which its matrix decompositions otherwise show.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    gains = [2**0.5] * len(model.trunk) + [0.01, 1.0]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        for layer, gain in zip([*model.trunk, model.policy_head, model.value_head], gains, strict=True):
            nn.init.orthogonal_(layer.weight, gain, generator)
            layer.bias.zero_()
    torch.set_num_threads(threads)


def build(config: Config, environment: EnvironmentSpec) -> ActorCritic:
    """The network of a run."""
    return ActorCritic(
        environment.observation_size,
        environment.action_count,
        config.network.hidden_sizes,
        config.loss.value_scale,
        environment.action_start,
    )


def _linear(fan_in: int, fan_out: int) -> nn.Linear:
    """A layer in single precision on the CPU, whatever an environment has made torch's defaults."""
    return nn.Linear(fan_in, fan_out, device="cpu", dtype=torch.float32)
