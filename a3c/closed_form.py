"""The learner whose gradient is written out: by the chain rule a sum of those of trunk, head and objective."""

from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from a3c.actors import ClosedFormActor, actor_for
from a3c.heads import Evaluated
from a3c.learners import NO_CURES, Cures, Minibatch, RolloutStatistics, action_values, minibatches, remember
from a3c.moments import MomentsMeter
from a3c.networks import ActorCritic
from a3c.objectives import Objective, Targets
from a3c.rollouts import Rollout, Stopwatch

Array = NDArray[np.float32]


class ClosedFormLearner(ClosedFormActor):
    """The exact derivative written out: by the chain rule a sum of those of trunk, head and objective.

    An eighth to a quarter of autograd's time (docs/decisions/0003). The first forward pass is the one that acted.
    """

    def __init__(
        self,
        model: ActorCritic,
        objective: Objective,
        n_steps: int,
        count: int,
        watch: Stopwatch,
        rng: Generator,
        cures: Cures = NO_CURES,
    ):
        steps = n_steps * count
        batch = steps // objective.minibatches if cures.steps == 1 else steps
        super().__init__(model, n_steps, count, batch * (1 + (cures.memory is not None)))
        self._objective, self._rng, self._lap, self._cures = objective, rng, watch.lap, cures
        self._ones = np.ones(batch, np.float32)
        self._slow = None if cures.slow is None else actor_for(cures.slow)
        self._measure, self._act = MomentsMeter(batch).measure, self._trunk.act
        self._is_plain = not (self._mask or self._normalizer or self.head.free)
        if not self._is_plain:
            self._kept = np.zeros((n_steps + 1, count, model.observation.size), np.float32)

    def act(self, t: int, observations: NDArray[Any], out: Array) -> None:
        if self._is_plain:
            self._act(t, observations).dot(self._policy.transposed, out)
            out += self._policy.bias
        else:
            self._finish(observations, self._policy(self._act(t, self._keep(t, observations))), out)

    def _keep(self, t: int, observations: NDArray[Any]) -> Array:
        """What the trunk is given of step t's observations, kept for `gradient`."""
        kept: Array = self._kept[t]
        inputs = self._inputs(observations, kept)
        if inputs is not kept:
            kept[:] = inputs.reshape(kept.shape)
        return kept

    def prepare(self, rollout: Rollout, moved: bool = False) -> list[Minibatch]:
        n_steps, count = rollout.rewards.shape
        steps, last, self._rollout = n_steps * count, rollout.observations[-1], rollout
        last = last if self._is_plain else self._keep(n_steps, last)
        flat = rollout.flat_observations if self._is_plain else self._kept[:n_steps].reshape(steps, -1)
        self._evaluated = self.head.evaluate(rollout.parameters.reshape(steps, -1), rollout.flat_actions)
        acted = None
        if moved:
            acted = self._evaluated.log_prob.reshape(n_steps, count)
            self._forward_again(rollout, flat, last)
        else:
            self._trunk.act(n_steps, last)
            self._outputs_kept = self._trunk.kept(flat)
            if self._critic is not None:
                self._critic_kept = self._critic.forward(flat)
                self._values_kept = self._values(np.concatenate((self._critic_kept[-1], self._critic(last))))
            elif self._value is not None:
                self._values_kept = self._values(self._trunk.features[: steps + count])  # [(T + 1) * B]
        log_prob = self._evaluated.log_prob.reshape(n_steps, count)
        if self._slow is not None:
            observations = rollout.observations.reshape(-1, *rollout.observations.shape[2:])
            self._values_kept = self._slow.values(observations)
            if self._value is None:
                known = self._slow.parameters(observations).reshape(n_steps + 1, count, -1)
                log_prob = action_values(self.head, known, rollout)
        self._lap("forward")
        values = self._values_kept.reshape(n_steps + 1, count)
        self._targets = self._objective.targets(rollout, values, self._model.unit, log_prob, acted).flat()
        self._lap("returns")
        remember(self._cures, rollout, self._targets)
        return minibatches(self._objective, steps, self._rng, self._cures.steps)

    def _forward_again(self, rollout: Rollout, flat: Array, last: Array) -> None:
        """What acting has kept, at the parameters that are there now."""
        self._outputs_kept = own = self._trunk.forward(flat)
        following = self._trunk
        if self._critic is not None:
            self._critic_kept = own = self._critic.forward(flat)
            following = self._critic
        if self._value is not None:
            self._values_kept = self._values(np.concatenate((own[-1], following(last))))
        parameters = np.empty((len(flat), rollout.parameters.shape[-1]), np.float32)
        self._finish(rollout.flat_observations, self._policy(self._outputs_kept[-1]), parameters)
        self._evaluated = self.head.evaluate(parameters, rollout.flat_actions)

    def gradient(self, batch: Minibatch) -> RolloutStatistics:
        rows, targets, evaluated, outputs = batch.rows, self._targets, self._evaluated, self._outputs_kept
        critic = outputs if self._critic is None else self._critic_kept
        if rows is not None:
            rollout, targets = self._rollout, targets.take(rows)
            inputs = outputs[0][rows]
            outputs = self._trunk.forward(inputs)
            critic = outputs if self._critic is None else self._critic.forward(inputs)
            parameters = np.empty((len(rows), rollout.parameters.shape[-1]), np.float32)
            self._finish(rollout.flat_observations[rows], self._policy(outputs[-1]), parameters)
            evaluated = self.head.evaluate(parameters, rollout.flat_actions[rows])
            self._lap("forward")
        if self._value is None:
            values = evaluated.log_prob * np.float32(targets.unit)
        elif rows is None and self._slow is None:
            values = self._values_kept[: len(targets.returns)]
        else:
            values = self._values(critic[-1])
        if self._objective.preconditions and not batch.critic_alone:
            targets = self._preconditioned(targets, evaluated, outputs)
        terms, derivative = self._objective.derivative(evaluated.log_prob, evaluated.entropy, values, targets)
        if batch.critic_alone:
            derivative = derivative._replace(log_prob=0 * derivative.log_prob, entropy=0 * derivative.entropy)
        d_parameters = evaluated.backward(derivative.log_prob, derivative.entropy)
        d_value = (derivative.values * np.float32(targets.unit))[:, None]
        if self._free is not None:
            self._model.free.grad.numpy()[:] = np.add.reduce(d_parameters[:, self._outputs :])  # type: ignore[union-attr]
            d_parameters = d_parameters[:, : self._outputs]
        ones = self._ones if len(d_value) == len(self._ones) else self._ones[: len(d_value)]
        self._policy.backward(outputs[-1], d_parameters, ones)
        if self._critic is None and self._value is not None:
            self._value.backward(outputs[-1], d_value, ones)
            weights = np.concatenate((self._policy.weight, self._value.weight))
            self._trunk.backward(outputs, np.concatenate((d_parameters, d_value), 1), weights)
        else:
            self._trunk.backward(outputs, d_parameters, self._policy.weight)
        if self._critic is not None and self._value is not None:
            critic, d_value = self._reminded(critic, d_value)
            self._value.backward(critic[-1], d_value, np.ones(len(d_value), np.float32))
            self._critic.backward(critic, d_value, self._value.weight)
        self._lap("backward")
        return RolloutStatistics(terms, self._measure(targets.returns, values, targets.valid))

    def rollout_values(self, rollout: Rollout) -> Array:
        flat = rollout.observations.reshape(-1, *rollout.observations.shape[2:])
        return self.values(flat).reshape(len(rollout.observations), -1)

    def _reminded(self, critic: list[Array], d_value: Array) -> tuple[list[Array], Array]:
        """What the critic has computed and the derivative by its values, with those of remembered steps."""
        memory, unit = self._cures.memory, np.float32(self._model.unit)
        if memory is None or self._critic is None:
            return critic, d_value
        observations, returns = memory.draw(self._rng, len(d_value))
        outputs = self._critic.forward(self._inputs(observations))
        error = (self._values(outputs[-1]) - returns) / unit
        more = error * np.float32(self._cures.memory_coef / len(error))
        joined = [np.concatenate(pair) for pair in zip(critic, outputs, strict=True)]
        return joined, np.concatenate((d_value, more[:, None]))

    def _preconditioned(self, targets: Targets, evaluated: Evaluated, outputs: list[Array]) -> Targets:
        """Targets for the natural gradient, from the products of all pairs of the steps' scores."""
        scores = evaluated.backward(self._ones[: len(targets.valid)], np.zeros_like(targets.valid))
        layer, free = scores[:, : self._outputs], scores[:, self._outputs :]
        products = layer.dot(layer.T) * (outputs[-1].dot(outputs[-1].T) + 1) + free.dot(free.T)
        products += self._trunk.gram(outputs, layer, self._policy.weight)
        return self._objective.preconditioned(targets, products)  # type: ignore[attr-defined, no-any-return]
