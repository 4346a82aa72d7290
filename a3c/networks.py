"""The actor-critic: a trunk shared ("tied") by a policy layer and a value layer (Mnih et al. 2016, section 4)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from a3c.config import VALUE_BASED, Config, ConfigError
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
        self.normalizer = _normalizer(trunk.observation.numbers) if normalize or value_scale is None else None
        self.normalizes, self.spaces = normalize, spaces

    @property
    def observation(self) -> ObservationSpec:
        return self.trunk.observation

    @property
    def state_size(self) -> int:
        """How many numbers the network remembers of an episode; 0: it is not recurrent."""
        return sum(getattr(trunk, "state_size", 0) for trunk in (self.trunk, self.critic))

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters [..., outputs + free] of the head's distribution, values [...], of observations [..., *shape]."""
        inputs = self._inputs(observations)
        features = self.trunk(inputs)
        return self._outputs(observations, features, features if self.critic is None else self.critic(inputs))

    def step(self, observations: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same of a recurrent network, for observations [B, *shape] and its state [B, S]; the next state last."""
        return self._remembering(observations, state, lambda trunk, *given: trunk.step(*given))

    def sequence(self, observations: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same for sequences [T, B, *shape]; the state is forgotten at the starts [T, B] of episodes."""
        return self._remembering(observations, state, lambda trunk, *given: trunk.sequence(*given, starts))

    def _remembering(self, observations: Tensor, state: Tensor, run: Any) -> tuple[Tensor, Tensor, Tensor]:
        inputs, trunk = self._inputs(observations), self.trunk
        own: int = trunk.state_size  # type: ignore[attr-defined]
        features, following = run(trunk, inputs, state[:, :own])
        criticised = features
        if self.critic is not None:
            criticised, others = run(self.critic, inputs, state[:, own:])
            following = torch.cat((following, others), -1)
        return *self._outputs(observations, features, criticised), following

    def _inputs(self, observations: Tensor) -> Tensor:
        """What the trunk is given: without the mask, normalised."""
        spec, inputs = self.observation, observations
        if spec.mask:
            inputs = observations[..., : -spec.mask]
        if self.normalizer is not None and self.normalizes and spec.numbers:
            flat = inputs.flatten(inputs.dim() - len(spec.shape))
            normalized = self.normalizer(flat[..., : spec.numbers])
            inputs = torch.cat((normalized, flat[..., spec.numbers :]), -1) if spec.images else normalized
            inputs = inputs.unflatten(-1, (spec.size,) if spec.mask else spec.shape)
        return inputs

    def _outputs(self, observations: Tensor, features: Tensor, criticised: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters and values, of the features that the policy and the critic have."""
        masked, parameters = self.observation.mask, self.policy_head(features)
        if masked:
            parameters = torch.where(observations[..., -masked:] > 0, parameters, parameters.new_tensor(MASKED))
        if self.free is not None:
            parameters = torch.cat((parameters, self.free.expand(*parameters.shape[:-1], -1)), -1)
        unit: Any = self.value_scale
        if unit is None and self.normalizer is not None:
            unit = self.normalizer.statistics[-1]
        if self.value_head is None:
            return parameters, self.head.best(parameters) * unit  # type: ignore[attr-defined]
        return parameters, self.value_head(criticised).squeeze(-1) * unit

    @property
    def unit(self) -> float:
        """The value's unit now."""
        return self.value_scale if self.value_scale is not None else self.normalizer.unit  # type: ignore[union-attr]


def _normalizer(size: int) -> "Normalizer":
    from a3c.normalization import Normalizer  # here, for a run that uses none

    return Normalizer(size)


def build(config: Config, environment: EnvironmentSpec) -> ActorCritic:
    """The network of a run."""
    network = config.network
    kinds = network.hidden_sizes, network.convolution, network.recurrent, network.recurrent_size
    try:
        trunk = trunk_of(environment.observation, *kinds)
    except ValueError as error:
        raise ConfigError(f"env: '{environment.env_id}' {error}") from error
    head, action_values = environment.head, config.loss.objective in VALUE_BASED
    if action_values:
        from a3c.action_values import action_values_of

        head = action_values_of(head)
    critic = trunk_of(environment.observation, *kinds) if config.critic.critic == "separate" else None
    scale, normalize = config.loss.value_scale, config.network.normalize_observations
    return ActorCritic(trunk, head, scale, normalize, environment.spaces, critic, action_values)


def trunk_of(
    observation: ObservationSpec,
    hidden_sizes: Sequence[int],
    convolution: str = "paper",
    recurrent: str | None = None,
    recurrent_size: int | None = None,
) -> Trunk:
    """The trunk of a network; a ValueError where its images are too small."""
    trunk: Trunk
    if observation.images:
        from a3c.convolution import Images

        trunk = Images(observation, convolution, hidden_sizes)
    else:
        trunk = MLP(observation, hidden_sizes)
    if recurrent is not None:
        from a3c.recurrent import SIZE, Recurrent

        trunk = Recurrent(trunk, recurrent, recurrent_size or SIZE)
    return trunk


def fewest_parameters(
    observation: ObservationSpec, hidden_sizes: Sequence[int], convolution: str, units: int | None, outputs: int
) -> int:
    """How many parameters a network has at least, without building it; `units` are those of a recurrent core."""
    counts, features = [], 0
    if observation.images:
        from a3c.convolution import flat_size

        counts = [flat_size(image, convolution) for image in observation.images]
    if observation.numbers:
        sizes = [observation.numbers, *hidden_sizes]
        counts += [(fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes)]
        features = sizes[-1]
    core = 0 if units is None else 3 * (units + features) * units
    return sum(counts) + core + (features if units is None else units) * outputs


def initialize(model: ActorCritic, seed: int) -> None:
    """Orthogonal weights and zero biases: gain sqrt(2) in the trunk, 0.01 for the policy, 1 for the value.

    The small policy gain starts every run from a nearly uniform policy (Andrychowicz et al. 2021, C57). The same seed
    gives the same bits however many threads torch may use, which its matrix decompositions otherwise show.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    gains: dict[Any, float] = {model.policy_head: 0.01, model.value_head: 1.0}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.orthogonal_(layer.weight, gains.get(layer, 2**0.5), generator)
                layer.bias.zero_()  # type: ignore[union-attr]
            elif isinstance(layer, nn.RNNBase):
                from a3c.recurrent import initialize_core

                initialize_core(layer, generator)
    torch.set_num_threads(threads)


def critic_place(model: ActorCritic) -> slice:
    """Where the parameters of a separate critic lie in the flat vector that a model is bound to."""
    assert model.value_head is not None
    first = next(iter(model.critic.parameters())) if model.critic is not None else model.value_head.weight  # type: ignore[attr-defined]
    last = model.value_head.bias
    return slice(first.storage_offset(), last.storage_offset() + _padded(last.numel()))


def flat_zeros(module: nn.Module, pinned: bool = False) -> Tensor:
    """A flat vector [P] for all of a module's parameters, or their gradients: so a pull is one copy, a push one kernel.

    Of float32 on the CPU, whatever torch's defaults. The padding between tensors belongs to no parameter: it is 0 in
    both vectors, and every optimizer leaves it there. One that is `pinned` is copied to a GPU faster.
    """
    pinned = pinned and torch.cuda.is_available()
    size = sum(_padded(parameter.numel()) for parameter in module.parameters())
    return torch.zeros(size, dtype=torch.float32, device="cpu", pin_memory=pinned)


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
