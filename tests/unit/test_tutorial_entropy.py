"""The hypothesis on the entropy bonus, judged from a study's comparison.json."""

from dataclasses import asdict, replace

import pytest

from benchmarks.tutorial.entropy import verdicts
from tests.unit.comparison_samples import sample_runs
from workers.comparison.analysis import arm_result, contrasts

ARMS = {"entropy_coef 0.01": {"entropy_coef": 0.01}, "entropy_coef 0": {"entropy_coef": 0.0}}


def comparison_of(variances, arms):
    """What comparison.json holds of arms by name and values, whose policy losses vary as given."""
    runs = [
        replace(run, summary=replace(run.summary, policy_loss_variance=variances[run.arm] * (1 + 0.02 * run.seed)))
        for run in sample_runs(dict.fromkeys(arms, 4_000.0))
    ]
    results = [arm_result(name, arms[name], [run for run in runs if run.arm == name]) for name in arms]
    return {"arms": [asdict(arm) for arm in results], "contrasts": [asdict(one) for one in contrasts(list(arms), runs)]}


@pytest.mark.parametrize(
    ("with_bonus", "verdict"),
    [(0.5, "the data bear it out"), (0.86, "do not decide it"), (1.2, "the data contradict it")],
)
def test_the_hypothesis_is_tested_whichever_arm_comes_first(with_bonus, verdict):
    for arms in (ARMS, dict(reversed(ARMS.items()))):
        (sentence,) = verdicts(comparison_of(dict(zip(ARMS, (with_bonus, 1.0), strict=True)), arms))
        assert verdict in sentence
        assert f"is {with_bonus:.1f}" in sentence or f"is {with_bonus:.2f}" in sentence


def test_arms_that_differ_in_more_than_the_bonus_say_nothing_of_it():
    modes = {"async": {"mode": "async"}, "sync": {"mode": "sync"}}
    both = {"a": {"entropy_coef": 0.01, "mode": "async"}, "b": {"entropy_coef": 0.0, "mode": "sync"}}
    weights = {"a": {"entropy_coef": 0.01}, "b": {"entropy_coef": 0.02}}
    for arms in (modes, both, weights):
        assert verdicts(comparison_of(dict.fromkeys(arms, 1.0), arms)) == []


def test_an_interval_that_is_not_known_decides_nothing():
    comparison = comparison_of(dict(zip(ARMS, (0.5, 1.0), strict=True)), ARMS)
    comparison["contrasts"][0]["policy_loss_variance_ratio"] = {"value": None, "low": None, "high": None}
    (sentence,) = verdicts(comparison)
    assert "the data do not decide it" in sentence
