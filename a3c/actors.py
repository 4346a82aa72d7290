"""Actors: the one way in which a network acts, for the collector, evaluations, playing, export and serving."""

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from a3c.heads import MASKED, Array, Categorical, Head
from a3c.networks import ActorCritic
from a3c.trunks import ClosedFormLinear


class Actor(Protocol):
    """A policy and its critic as functions of NumPy observations; whatever the parameters become is seen at once."""

    head: Head
    state_size: int = 0  # how many numbers it remembers of an episode

    def parameters(self, observations: NDArray[Any]) -> Array:
        """Parameters [B, outputs] of the head's distribution over the actions, for observations [B, *shape]."""

    def values(self, observations: NDArray[Any]) -> Array:
        """V(s) [B], in units of return."""

    def actions(
        self, observations: NDArray[Any], *, greedy: bool = True, rng: np.random.Generator | None = None
    ) -> NDArray[Any]:
        """Actions [B, *action_shape], as the head counts them: the most probable ones, or drawn with `rng`."""
        return self.chosen(self.parameters(observations), greedy=greedy, rng=rng)

    def chosen(self, parameters: Array, *, greedy: bool = True, rng: np.random.Generator | None = None) -> NDArray[Any]:
        """Actions of a distribution's parameters [B, outputs]."""
        if greedy:
            return self.head.mode(parameters)
        noise = np.empty((len(parameters), *self.head.noise_shape), np.float32)
        self.head.draw_noise(rng or np.random.default_rng(), noise)
        return self.head.sample(parameters, noise)

    def both(self, observations: NDArray[Any]) -> tuple[Array, Array]:
        """Parameters and values of the same observations; a recurrent network takes them for one step."""
        return self.parameters(observations), self.values(observations)

    def restart(self, count: int) -> None:
        """Begin an episode in each of `count` environments: one that remembers forgets what it has seen."""
        return


class ClosedFormActor(Actor):
    """Acts in NumPy on the network's parameters: an eighth of torch's time. With a rollout's sizes it can learn."""

    def __init__(self, model: ActorCritic, n_steps: int = 0, count: int = 0, batch: int = 0):
        self.head, self._model, self._mask = model.head, model, model.observation.mask
        self._trunk = model.trunk.closed_form(n_steps, count, batch)  # type: ignore[attr-defined]
        self._policy = ClosedFormLinear(model.policy_head)
        self._value = None if model.value_head is None else ClosedFormLinear(model.value_head)
        critic: Any = model.critic
        self._critic = None if critic is None else critic.closed_form(n_steps, count, batch)
        self._outputs, self._normalizer = model.head.outputs, model.normalizer if model.normalizes else None
        self._free = None if model.free is None else model.free.detach().numpy()

    def parameters(self, observations: NDArray[Any]) -> Array:
        count = len(observations)
        parameters = np.empty((count, self._outputs + self.head.free), np.float32)
        self._finish(observations, self._policy(self._trunk(self._inputs(observations))), parameters)
        return parameters

    def values(self, observations: NDArray[Any]) -> Array:
        if self._value is None:
            best: Array = self.head.best(self.parameters(observations))  # type: ignore[attr-defined]
            return best * np.float32(self._model.unit)
        return self._values((self._critic or self._trunk)(self._inputs(observations)))

    def _values(self, features: Array) -> Array:
        assert self._value is not None
        return self._value(features)[:, 0] * np.float32(self._model.unit)

    def _inputs(self, observations: NDArray[Any], out: Array | None = None) -> NDArray[Any]:
        """What the trunk is given of observations [B, *shape]: without their mask, normalised."""
        if self._mask:
            observations = observations[:, : -self._mask]
        if self._normalizer is None:
            return observations
        flat = observations.reshape(len(observations), -1)
        return self._normalizer.closed_form(flat, np.empty(flat.shape, np.float32) if out is None else out)

    def _finish(self, observations: NDArray[Any], outputs: Array, parameters: Array) -> None:
        """Write the head's parameters [B, outputs + free], given the policy layer's outputs."""
        own = parameters[:, : self._outputs]
        own[:] = outputs
        if self._mask:
            np.copyto(own, MASKED, where=observations[:, -self._mask :] == 0)
        if self._free is not None:
            parameters[:, self._outputs :] = self._free


class ModuleActor(Actor):
    """Acts by torch: right for any network."""

    def __init__(self, model: ActorCritic):
        self.head, self._model = model.head, model

    def parameters(self, observations: NDArray[Any]) -> Array:
        return self.both(observations)[0]

    def values(self, observations: NDArray[Any]) -> Array:
        return self.both(observations)[1]

    @torch.no_grad()
    def both(self, observations: NDArray[Any]) -> tuple[Array, Array]:
        parameters, values = self._model(torch.from_numpy(np.ascontiguousarray(observations)))
        return parameters.numpy(), values.numpy()


class RecurrentActor(ModuleActor):
    """Acts by torch, and remembers the episodes of its batch, which begin with `restart` or the first observations."""

    def __init__(self, model: ActorCritic):
        super().__init__(model)
        self._state: Array | None = None

    def restart(self, count: int) -> None:
        self._state = np.zeros((count, self._model.state_size), np.float32)

    def both(self, observations: NDArray[Any]) -> tuple[Array, Array]:
        if self._state is None:
            self.restart(len(observations))
        state: Any = self._state
        if len(state) != len(observations):
            raise ValueError(f"{len(observations)} observations of {len(state)} episodes; call restart(count) before")
        parameters, values, self._state = self.step(observations, state)
        return parameters, values

    @torch.no_grad()
    def step(self, observations: NDArray[Any], state: Array) -> tuple[Array, Array, Array]:
        """Parameters, values and next state [B, S] of observations and a state."""
        given = (torch.from_numpy(np.ascontiguousarray(array)) for array in (observations, state))
        parameters, values, following = self._model.step(*given)
        return parameters.numpy(), values.numpy(), following.numpy()


def has_closed_form(model: ActorCritic) -> bool:
    """Whether a network acts, and learns, without torch: one that neither remembers nor sees images."""
    return hasattr(model.trunk, "closed_form")


def actor_for(model: ActorCritic) -> Actor:
    """The fastest actor that a network has."""
    if has_closed_form(model):
        return ClosedFormActor(model)
    return RecurrentActor(model) if model.state_size else ModuleActor(model)


class Policy(Actor):
    """Actions, distributions and values of a trained actor-critic for batches of NumPy observations."""

    def __init__(self, model: ActorCritic):
        self.model, self.head, self.observation = model, model.head, model.observation
        self._actor = actor_for(model)

    def __call__(self, observations: Any, *, greedy: bool = True, rng: np.random.Generator | None = None) -> Any:
        """Actions [B, *action_shape] for observations [B, *shape], as the environment takes them: the most probable
        ones, or sampled with `rng` where not greedy.
        """
        return self.head.to_env(self.actions(observations, greedy=greedy, rng=rng))

    @np.errstate(all="ignore")  # as training computes them, whatever the caller has NumPy raise
    def parameters(self, observations: Any) -> Array:
        """Parameters of the head's distribution [B, outputs]: of a categorical one, unnormalised log-probabilities."""
        return self._actor.parameters(self._batch(observations))

    @np.errstate(all="ignore")
    def probabilities(self, observations: Any) -> Array:
        """pi(a|s), [B, A]."""
        assert isinstance(self.head, Categorical)
        return self.head.probabilities(self.parameters(observations))

    @np.errstate(all="ignore")
    def values(self, observations: Any) -> Array:
        """V(s), [B], the critic's estimate of the discounted return."""
        return self._actor.values(self._batch(observations))

    @np.errstate(all="ignore")
    def both(self, observations: Any) -> tuple[Array, Array]:
        return self._actor.both(self._batch(observations))

    @np.errstate(all="ignore")
    def answers(self, observations: Any, states: Array) -> tuple[Array, Array, Array]:
        """Parameters, values and next states [B, S] of observations and states; of what is not recurrent S is 0."""
        batch = self._batch(observations)
        if isinstance(self._actor, RecurrentActor):
            return self._actor.step(batch, states)
        return *self._actor.both(batch), states

    def restart(self, count: int) -> None:
        """Begin `count` episodes: what a recurrent policy remembers of those before is forgotten."""
        self._actor.restart(count)

    def _batch(self, observations: Any) -> NDArray[Any]:
        batch, shape = np.asarray(observations, dtype=self.observation.dtype), self.observation.shape
        if batch.shape[1:] != shape or batch.ndim != len(shape) + 1:
            wanted = ", ".join(["B", *map(str, shape)])
            raise ValueError(f"observations must have the shape [{wanted}], got {list(batch.shape)}")
        return batch
