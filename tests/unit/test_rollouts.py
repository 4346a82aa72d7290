"""What the collector records of environments whose every step is known."""

import itertools
import time

import gymnasium
import numpy as np
import pytest
import torch

from a3c.actors import actor_for
from a3c.environments import describe
from a3c.native import NativeEnvironments
from a3c.networks import initialize
from a3c.rollouts import Collector, Stopwatch
from a3c.serial import SerialEnvironments
from tests.unit.networks import GRADIENTS, a2c_loss, learn, learner_of, mlp
from tests.unit.scripted_environments import Endless, Script, Walk, copy, scripted


def fixed(logits):
    """A policy whose logits are the same everywhere."""

    def act(t, observations, out):
        out[:] = logits

    return act


def collector_of(environments, n_steps, seed=0, rng=None, **options):
    return Collector(environments, n_steps, rng or np.random.default_rng(seed), **options)


def joined(rollouts):
    """Rollouts in a row as one: their arrays joined along time, without the doubled border observations."""
    for earlier, later in itertools.pairwise(rollouts):
        np.testing.assert_array_equal(earlier.observations[-1], later.observations[0])
    observations = np.concatenate([r.observations[:-1] for r in rollouts] + [rollouts[-1].observations[-1:]])
    names = ("actions", "rewards", "terminated", "truncated", "valid")
    return observations, *(np.concatenate([getattr(r, name) for r in rollouts]) for name in names)


def collect(collector, policy, times):
    return joined([copy(collector.collect(policy)) for _ in range(times)])


@pytest.mark.parametrize("n_steps", [1, 3, 4, 50])
def test_terminated_episodes_are_recorded_step_by_step(n_steps):
    environment = scripted(Script, rewards=[[1.0, 2.0, 4.0], [8.0]])
    collector = collector_of(environment.make(1), n_steps)
    observations, _, rewards, terminated, truncated, valid = (
        array[:13, 0] for array in collect(collector, fixed([0, 0]), -(-13 // n_steps))
    )
    first, second = [1.0, 2.0, 4.0, 0.0], [8.0, 0.0]  # 0 is the resetting step
    np.testing.assert_array_equal(rewards, [*first, *second, *first, *second, 1.0])
    np.testing.assert_array_equal(valid, rewards > 0)
    np.testing.assert_array_equal(terminated, [0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0])
    assert not truncated.any()
    expected = [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3), (3, 0), (3, 1), (4, 0)]
    np.testing.assert_array_equal(observations, expected)  # (0, 3) is final, (1, 0) what the reset after it returns


def test_truncated_step_is_followed_by_the_true_final_observation():
    environment = scripted(Script, max_episode_steps=3, rewards=[[1.0] * 9])
    observations, _, rewards, terminated, truncated, valid = collect(
        collector_of(environment.make(2), 5), fixed([0, 0]), 2
    )
    np.testing.assert_array_equal(truncated[:, 0], [0, 0, 1, 0, 0, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(observations[[3, 7], 0], [(0, 3), (1, 3)])
    np.testing.assert_array_equal(observations[[4, 8], 0], [(1, 0), (2, 0)])
    np.testing.assert_array_equal(valid[:, 0], [1, 1, 1, 0, 1, 1, 1, 0, 1, 1])
    np.testing.assert_array_equal(rewards, valid)
    assert not terminated.any()


def test_final_observation_at_a_rollouts_border_is_its_last_row():
    environment = scripted(Script, max_episode_steps=3, rewards=[[1.0] * 9])
    collector = collector_of(environment.make(1), 3)
    rollout = collector.collect(fixed([0, 0]))
    assert rollout.truncated[2, 0]
    np.testing.assert_array_equal(rollout.observations[3, 0], (0, 3))
    rollout = collector.collect(fixed([0, 0]))
    np.testing.assert_array_equal(rollout.valid[:, 0], [False, True, True])
    assert collector.env_steps == 5


def test_env_without_end_has_every_step_valid():
    collector = collector_of(scripted(Endless).make(3), 7)
    _, _, rewards, terminated, truncated, valid = collect(collector, fixed([0, 0]), 3)
    assert valid.all()
    assert (rewards == 1).all()
    assert not (terminated | truncated).any()
    assert (collector.env_steps, collector.episodes) == (63, 0)


def replay(actions, valid, max_episode_steps):
    """The episode returns of one environment, stepped by hand with the actions that counted."""
    environment, returns, running, steps = Walk(), [], 0.0, 0
    environment.reset()
    for action, counted in zip(actions, valid, strict=True):
        if not counted:
            environment.reset()
            continue
        _, reward, terminated, _, _ = environment.step(action)
        running, steps = running + reward, steps + 1
        if terminated or steps == max_episode_steps:
            returns.append(running)
            running, steps = 0.0, 0
    return returns


@pytest.mark.parametrize("n_steps", [1, 2, 7, 64])
@pytest.mark.parametrize("count", [1, 3])
def test_episode_returns_are_exact_across_the_borders_of_rollouts(n_steps, count):
    collector = collector_of(scripted(Walk, max_episode_steps=6).make(count), n_steps)
    _, actions, _, terminated, truncated, valid = collect(collector, fixed([0, 0.5]), 448 // n_steps)
    assert terminated.any()
    assert truncated.any()
    expected = [replay(actions[:, b], valid[:, b], 6) for b in range(count)]
    everything = [episode_return for returns in expected for episode_return in returns]
    assert collector.episodes == len(everything) == np.count_nonzero(terminated | truncated)
    assert collector.return_sum == sum(everything)
    assert (
        collector.env_steps == np.count_nonzero(valid) == valid.size - np.count_nonzero((terminated | truncated)[:-1])
    )
    recent = list(collector.recent_returns)
    assert len(recent) == min(100, len(everything))
    if count == 1:
        assert recent == everything[-100:]
    elif len(everything) <= 100:
        assert sorted(recent) == sorted(everything)


def test_recent_returns_are_those_of_the_last_hundred_episodes():
    environment = scripted(Script, rewards=[[float(n)] for n in range(1000)])
    collector = collector_of(environment.make(1), 20)
    collect(collector, fixed([0, 0]), 15)
    assert list(collector.recent_returns) == list(range(50, 150))


def cartpole(kind, count, max_episode_steps):
    spec = describe("CartPole-v1", max_episode_steps)
    if kind == "native":
        environments = spec.make(count)
        assert isinstance(environments, NativeEnvironments)
        return environments
    return SerialEnvironments([spec.make_one() for _ in range(count)])


@pytest.mark.parametrize(("kind", "count"), [("native", 5), ("native", 9), ("serial", 1), ("serial", 3)])
def test_native_and_serial_cartpole_obey_one_contract(kind, count):
    """Each step's successor, reward and end against a scalar CartPole put into the recorded state."""
    collector = collector_of(cartpole(kind, count, max_episode_steps=12), n_steps=9)
    collected = collect(collector, fixed([0, 0.3]), 12)
    observations, actions, rewards, terminated, truncated, valid = collected
    scalar = gymnasium.make("CartPole-v1").unwrapped
    episodes = 0
    for b in range(count):
        length, ended = 0, False
        for t in range(len(actions)):
            assert valid[t, b] == (not ended)
            if ended:
                assert (rewards[t, b], terminated[t, b], truncated[t, b]) == (0, False, False)
                assert np.abs(observations[t + 1, b]).max() <= 0.05  # a first observation
                ended, length = False, 0
                continue
            scalar.reset()
            scalar.state = tuple(observations[t, b].astype(np.float64))
            following, reward, scalar_terminated, _, _ = scalar.step(actions[t, b])
            length += 1
            np.testing.assert_allclose(observations[t + 1, b], following, rtol=1e-4, atol=1e-5)
            assert (rewards[t, b], terminated[t, b], truncated[t, b]) == (reward, scalar_terminated, length == 12)
            ended = terminated[t, b] or truncated[t, b]
            episodes += ended
    assert terminated.any()
    assert truncated.any()
    assert collector.episodes == episodes
    assert collector.env_steps == np.count_nonzero(valid)
    assert collector.return_sum == rewards.sum() - sum(
        unfinished(rewards[:, b], terminated | truncated, b) for b in range(count)
    )


def unfinished(rewards, ended, b):
    """What the episode under way at the end has earned."""
    ends = np.flatnonzero(ended[:, b])
    return rewards[ends[-1] + 1 if len(ends) else 0 :].sum()


def test_actions_are_samples_of_the_softmax_each_independent_of_the_others():
    logits = np.array([0.0, 1.0, -1.0])
    expected = np.exp(logits) / np.exp(logits).sum()
    collector = collector_of(scripted(Endless, actions=3).make(2), 10_000)
    actions = collector.collect(fixed(logits)).actions
    pairs = {
        "alone": actions[:, 0],
        "other environment": 3 * actions[:, 0] + actions[:, 1],
        "step before": 3 * actions[1:, 0] + actions[:-1, 0],
    }
    for name, outcomes in pairs.items():
        probabilities = expected if name == "alone" else np.outer(expected, expected).reshape(-1)
        counts = np.bincount(outcomes, minlength=len(probabilities))
        chi_square = ((counts - probabilities * len(outcomes)) ** 2 / (probabilities * len(outcomes))).sum()
        assert chi_square < {3: 13.8, 9: 26.1}[len(probabilities)], name  # p = 0.001


def test_policy_is_asked_with_the_observation_it_acts_on():
    collector = collector_of(scripted(Walk, max_episode_steps=20).make(3), 40)

    def towards_zero(_, observations, out):
        out[:] = np.where(observations > 0, [1e3, 0.0], [0.0, 1e3])

    rollout = collector.collect(towards_zero)
    np.testing.assert_array_equal(rollout.actions, rollout.observations[:-1, :, 0] <= 0)
    assert not rollout.terminated.any()


@pytest.mark.parametrize("count", [1, 5])  # scalar, native
def test_equal_seeds_give_equal_rollouts_and_others_do_not(count):
    spec = describe("CartPole-v1", max_episode_steps=20)
    first, second, other = (collect(collector_of(spec.make(count), 16, seed), fixed([0, 0.1]), 3) for seed in (4, 4, 5))
    for one, same in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, same)
    assert (first[0] != other[0]).any()
    assert (first[1] != other[1]).any()


def test_acting_books_all_of_its_time():
    watch, sleep = Stopwatch(), 0.002
    environments = scripted(Endless).make(1, latency_ms=1000 * sleep)
    collector = collector_of(environments, 5, watch=watch)

    def policy(t, observations, out):
        time.sleep(sleep)
        fixed([0, 0])(t, observations, out)

    watch.start()
    started = time.perf_counter()
    collector.collect(policy)
    passed = time.perf_counter() - started
    assert set(watch.seconds) == {"env", "forward", "sampling"}
    assert watch.seconds["env"] >= 5 * sleep <= watch.seconds["forward"]
    assert 0 < watch.seconds["sampling"] < passed - 10 * sleep
    assert sum(watch.seconds.values()) == pytest.approx(passed, rel=0.05)


def test_no_sample_warns_of_a_division():
    """Float32 exponential noise is exactly 0 once in ten million draws; its logarithm must not warn."""

    class Zeros:
        def integers(self, high):
            return 0

        def standard_exponential(self, dtype, out):
            out[:, :, 0], out[:, :, 1] = 1.0, 0.0
            return out

    collector = collector_of(scripted(Endless).make(2), 4, rng=Zeros())
    with np.errstate(divide="raise"):
        assert (collector.collect(fixed([0, 0])).actions == 1).all()


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_rollout_names_the_part_that_is_not_finite(number):
    rollout = collector_of(scripted(Walk).make(2), 4).collect(fixed([0, 0]))
    assert rollout.fault() is None
    rollout.rewards[3, 1] = number
    assert rollout.fault() == "rewards"
    rollout.rewards[3, 1] = 0
    rollout.observations[4, 1, 0] = number  # what follows the last step counts: values are bootstrapped from it
    assert rollout.fault() == "observations"


def totals(collector):
    return collector.episodes, collector.return_sum, list(collector.recent_returns)


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e300])
@pytest.mark.filterwarnings("ignore:overflow")
def test_returns_of_a_faulty_rollout_are_never_counted(number):
    """An episode that was faultless up to the fault is dropped with it, and so are those that ended beside it."""
    rewards = [[1.0, 2.0], [4.0, number, 8.0], [16.0], [32.0]]
    collector = collector_of(SerialEnvironments([Script(rewards), Script([[1.0] * 3])]), 4)
    collector.collect(fixed([0, 0]))
    before = totals(collector)
    assert before == (2, 6.0, [3.0, 3.0])
    faulty = collector.collect(fixed([0, 0]))
    assert faulty.fault() == "rewards"
    assert totals(collector) == before
    assert collector.env_steps == 6 + 6  # counted all the same
    collector.restart_episodes()
    rollout = collector.collect(fixed([0, 0]))
    assert rollout.fault() is None
    assert rollout.valid[0].all()
    assert totals(collector) == (5, 6.0 + 38.0, [3.0, 3.0, 32.0, 3.0, 3.0])


def test_restarted_episodes_drop_those_under_way():
    collector = collector_of(scripted(Script, rewards=[[1.0] * 5]).make(1), 3)
    collector.collect(fixed([0, 0]))
    collector.restart_episodes()
    rollout = collector.collect(fixed([0, 0]))
    np.testing.assert_array_equal(rollout.observations[:, 0, 1], [0, 1, 2, 3])
    collector.collect(fixed([0, 0]))
    assert totals(collector) == (1, 5.0, [5.0])


@pytest.mark.parametrize(("kind", "count"), [("serial", 2), ("native", 5)])
def test_first_observations_are_new_after_each_restart_and_follow_from_the_seed(kind, count):
    def starts(seed):
        collector = collector_of(cartpole(kind, count, 20), 3, seed)
        first = collector.collect(fixed([0, 0])).observations[0].copy()
        collector.restart_episodes()
        return [*first, *collector.collect(fixed([0, 0])).observations[0]]

    one, same, other = starts(6), starts(6), starts(7)
    np.testing.assert_array_equal(one, same)
    assert len({row.tobytes() for row in [*one, *other]}) == 4 * count


def test_sums_of_large_finite_rewards_stay_finite():
    """Within a rollout, after an end, over a rollout without one, and up to the next: 3.4e38 is float32's largest."""
    collector = collector_of(SerialEnvironments([Script([[2e38] * 3, [2e38] * 15])]), 8)
    assert [collector.collect(fixed([0, 0])).fault() for _ in range(3)] == [None] * 3
    assert list(collector.recent_returns) == pytest.approx([6e38, 3e39, 6e38])


def test_every_step_and_every_reset_of_all_is_a_sign_of_life():
    beats = []
    environments = scripted(Walk).make(3)
    collector = collector_of(environments, 7, beat=lambda: beats.append(None))
    assert len(beats) == 1
    collector.collect(fixed([0, 0]))
    assert len(beats) == 1 + 7
    collector.restart_episodes()
    assert len(beats) == 1 + 7 + 1


@pytest.mark.parametrize("gradients", GRADIENTS)
@pytest.mark.parametrize("gae_lambda", [0.0, 1.0])
@pytest.mark.parametrize("max_episode_steps", [None, 7])
def test_critic_learns_the_value_of_the_infinite_environment(gradients, gae_lambda, max_episode_steps):
    """V = 1 / (1 - gamma) = 10; without the bootstrap after a rollout or a time limit it stays below 6."""
    collector = collector_of(scripted(Endless, max_episode_steps).make(2), 5)
    network = mlp(1, 2, (8,), value_scale=10.0)
    initialize(network, seed=0)
    critic = [*network.trunk.parameters(), *network.value_head.parameters()]
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with torch.no_grad():
        network.policy_head.weight.zero_()  # the trunk learns from the critic alone
    loss = a2c_loss(gamma=0.9, gae_lambda=gae_lambda, value_coef=1.0, value_scale=10.0)
    learner = learner_of(network, gradients, 5, 2, loss)
    for _ in range(300):
        learn(learner, collector.collect(learner.act))
        with torch.no_grad():
            for parameter in critic:
                parameter -= 0.1 * parameter.grad
    assert actor_for(network).values(np.ones((1, 1), np.float32))[0] == pytest.approx(10.0, rel=0.05)


def test_a_rollout_of_whole_episodes_is_one_of_each_environment_from_its_start():
    rewards = [[1.0, 2.0], [3.0, 4.0, 5.0, 6.0], [7.0]]
    environment = scripted(Script, 10, rewards=rewards)
    collector = Collector(environment.make(3), 10, np.random.default_rng(0), whole_episodes=True)
    for played in (1, 2, 3):
        rollout = collector.collect(lambda t, observations, out: out.fill(0))
        lengths = rollout.valid.sum(0).tolist()
        assert len(rollout.rewards) == max(lengths)
        assert len(rollout.observations) == len(rollout.rewards) + 1
        for b, length in enumerate(lengths):
            assert rollout.observations[0, b, 1] == 0
            assert rollout.terminated[length - 1, b]
            assert rollout.rewards[:length, b].tolist() == rewards[int(rollout.observations[0, b, 0]) % 3]
            assert not rollout.valid[length:, b].any()
        assert collector.episodes == 3 * played
        assert collector.recent_returns[-1] in [sum(one) for one in rewards]
    assert collector.env_steps >= sum(map(len, rewards))


def test_a_collector_of_whole_episodes_resumes_bit_for_bit_whatever_the_environment():
    environment = scripted(Walk, 20)

    def collector():
        return Collector(environment.make(2), 20, np.random.default_rng(3), whole_episodes=True)

    first, second = collector(), collector()
    first.collect(lambda t, observations, out: out.fill(0))
    assert second.restore(first.state())
    one, other = (each.collect(lambda t, observations, out: out.fill(0)) for each in (first, second))
    np.testing.assert_array_equal(one.actions, other.actions)
    np.testing.assert_array_equal(one.observations, other.observations)
    assert first.env_steps == second.env_steps
