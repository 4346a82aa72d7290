"""The actor-critic: a trunk shared ("tied") by a policy layer and a value layer (Mnih et al. 2016, section 4)."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from a3c.config import VALUE_BASED, Config
from a3c.environments import EnvironmentSpec
from a3c.heads import MASKED, Head
from a3c.spaces import ObservationSpec
from a3c.trunks import MLP, Trunk, linear

if TYPE_CHECKING:
    from a3c.normalization import Normalizer

LINE = 16  # float32 values in a cache line of 64 bytes: each parameter tensor starts at one


class ActorCritic(nn.Module):
    """Parameters of the head's distribution, and the value, of an observation.

    Args:
        value_scale: the unit of the value; None: the spread of the returns, which the normaliser has.
        normalize: whether observations are scaled by the run's statistics.
        spaces: what `a3c.environments.spaces_of` says of the environment.
        critic: a trunk of the value's own; None: it shares the policy's.
        action_values: the head's parameters are values, in their unit; that of an observation is the highest.
    """

    def __init__(
        self,
        trunk: Trunk,
        head: Head,
        value_scale: float | None = 1.0,
        normalize: bool = False,
        spaces: dict[str, Any] | None = None,
        critic: Trunk | None = None,
        action_values: bool = False,
    ):
        super().__init__()
        self.trunk, self.head, self.value_scale = trunk, head, value_scale
        self.policy_head, self.critic = linear(trunk.features, head.outputs), critic
        self.value_head = None if action_values else linear((critic or trunk).features, 1)
        self.free = nn.Parameter(torch.zeros(head.free, device="cpu", dtype=torch.float32)) if head.free else None
        self.normalizer = _normalizer(trunk.observation.size) if normalize or value_scale is None else None
        self.normalizes, self.spaces = normalize, spaces

    @property
    def observation(self) -> ObservationSpec:
        return self.trunk.observation

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters [..., outputs + free] of the head's distribution, values [...], of observations [..., *shape]."""
        masked, inputs = self.observation.mask, observations
        if masked:
            inputs, allowed = observations[..., :-masked], observations[..., -masked:]
        if self.normalizer is not None and self.normalizes:
            inputs = self.normalizer(inputs.flatten(inputs.dim() - len(self.observation.shape)))
            inputs = inputs.unflatten(-1, (self.observation.size,) if masked else self.observation.shape)
        features = self.trunk(inputs)
        parameters = self.policy_head(features)
        if masked:
            parameters = torch.where(allowed > 0, parameters, parameters.new_tensor(MASKED))
        if self.free is not None:
            parameters = torch.cat((parameters, self.free.expand(*parameters.shape[:-1], -1)), -1)
        unit: Any = self.value_scale
        if unit is None and self.normalizer is not None:
            unit = self.normalizer.statistics[-1]
        if self.value_head is None:
            return parameters, self.head.best(parameters) * unit  # type: ignore[attr-defined]
        if self.critic is not None:
            features = self.critic(inputs)
        return parameters, self.value_head(features).squeeze(-1) * unit

    @property
    def unit(self) -> float:
        """The value's unit now."""
        return self.value_scale if self.value_scale is not None else self.normalizer.unit  # type: ignore[union-attr]


def _normalizer(size: int) -> "Normalizer":
    from a3c.normalization import Normalizer  # here, for a run that uses none

    return Normalizer(size)


def build(config: Config, environment: EnvironmentSpec) -> ActorCritic:
    """The network of a run."""
    observation, sizes = environment.observation, config.network.hidden_sizes
    trunk, head, action_values = MLP(observation, sizes), environment.head, config.loss.objective in VALUE_BASED
    if action_values:
        from a3c.action_values import action_values_of

        head = action_values_of(head)
    critic = MLP(observation, sizes) if config.critic.critic == "separate" else None
    scale, normalize = config.loss.value_scale, config.network.normalize_observations
    return ActorCritic(trunk, head, scale, normalize, environment.spaces, critic, action_values)


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


def critic_place(model: ActorCritic) -> slice:
    """Where the parameters of a separate critic lie in the flat vector that a model is bound to."""
    assert model.value_head is not None
    first = next(iter(model.critic.parameters())) if model.critic is not None else model.value_head.weight  # type: ignore[attr-defined]
    last = model.value_head.bias
    return slice(first.storage_offset(), last.storage_offset() + _padded(last.numel()))


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
