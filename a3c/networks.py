"""The actor-critic: a trunk shared ("tied") by a policy layer and a value layer (Mnih et al. 2016, section 4)."""

import torch
from torch import Tensor, nn

from a3c.config import Config
from a3c.environments import EnvironmentSpec
from a3c.heads import Head
from a3c.trunks import MLP, ObservationSpec, Trunk, linear

LINE = 16  # float32 values in a cache line of 64 bytes: each parameter tensor starts at one


class ActorCritic(nn.Module):
    """Parameters of the head's distribution, and the value, of an observation; `value_scale` is the value's unit."""

    def __init__(self, trunk: Trunk, head: Head, value_scale: float = 1.0):
        super().__init__()
        self.trunk, self.head, self.value_scale = trunk, head, value_scale
        self.policy_head, self.value_head = linear(trunk.features, head.outputs), linear(trunk.features, 1)

    @property
    def observation(self) -> ObservationSpec:
        return self.trunk.observation

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters [..., outputs] of the head's distribution and values [...] of observations [..., *shape]."""
        features = self.trunk(observations)
        return self.policy_head(features), self.value_head(features).squeeze(-1) * self.value_scale


def build(config: Config, environment: EnvironmentSpec) -> ActorCritic:
    """The network of a run."""
    trunk = MLP(environment.observation, config.network.hidden_sizes)
    return ActorCritic(trunk, environment.head, config.loss.value_scale)


def initialize(model: ActorCritic, seed: int) -> None:
    """Orthogonal weights and zero biases: gain sqrt(2) in the trunk, 0.01 for the policy, 1 for the value.

    The small policy gain starts every run from a nearly uniform policy (Andrychowicz et al. 2021, C57). The same seed
    gives the same bits however many threads torch may use, which its matrix decompositions otherwise show.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    gains = {model.policy_head: 0.01, model.value_head: 1.0}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        for layer in (module for module in model.modules() if isinstance(module, nn.Linear)):
            nn.init.orthogonal_(layer.weight, gains.get(layer, 2**0.5), generator)
            layer.bias.zero_()
    torch.set_num_threads(threads)


def flat_zeros(module: nn.Module) -> Tensor:
    """A flat vector [P] for all of a module's parameters, or their gradients: so a pull is one copy, a push one kernel.

    Of float32 on the CPU, whatever torch's defaults. The padding between tensors belongs to no parameter: it is 0 in
    both vectors, and every optimizer leaves it there.
    """
    size = sum(_padded(parameter.numel()) for parameter in module.parameters())
    return torch.zeros(size, dtype=torch.float32, device="cpu")


def bind(module: nn.Module, vector: Tensor, gradient: Tensor | None = None) -> None:
    """Make a module's parameters (and gradients) views of flat vectors [P]; its values move into the vector."""
    assert vector.shape == flat_zeros(module).shape and vector.dtype == torch.float32
    offset = 0
    for parameter in module.parameters():
        end = offset + parameter.numel()
        vector[offset:end].copy_(parameter.detach().reshape(-1))
        parameter.data = vector[offset:end].view(parameter.shape)
        parameter.grad = None if gradient is None else gradient[offset:end].view(parameter.shape)
        offset += _padded(parameter.numel())


def _padded(count: int) -> int:
    return -(-count // LINE) * LINE
