"""The tutorial's hypothesis on its entropy bonus: the bonus lowers the actor's variance by at least 15 %.

python -m benchmarks.studies entropy         # makes the runs and publishes their comparison.json
python -m benchmarks.tutorial.entropy        # reads it and prints the verdict
"""

import json
from math import nan
from typing import Any

from benchmarks.studies import TABLES
from workers.comparison.results import Interval
from workers.comparison.text import estimate, inverse, ratio

CLAIM = 0.85  # the variance with the bonus over the variance without it, at most


def main() -> None:
    """The verdict on the published study."""
    for sentence in verdicts(json.loads((TABLES / "entropy" / "comparison.json").read_text())):
        print(sentence)


def verdicts(comparison: dict[str, Any]) -> list[str]:
    """The hypothesis, tested wherever two arms of a comparison.json differ in having the bonus alone."""
    values = {arm["name"]: arm["values"] for arm in comparison["arms"]}
    return [
        _verdict(contrast, values[contrast["arm"]])
        for contrast in comparison["contrasts"]
        if _differ_in_bonus(values[contrast["arm"]], values[contrast["reference"]])
    ]


def _differ_in_bonus(arm: dict[str, Any], reference: dict[str, Any]) -> bool:
    same = {**arm, "entropy_coef": 0} == {**reference, "entropy_coef": 0}
    return same and bool(arm.get("entropy_coef")) != bool(reference.get("entropy_coef"))


def _verdict(contrast: dict[str, Any], arm: dict[str, Any]) -> str:
    ends = contrast["policy_loss_variance_ratio"]  # of the reference over the arm; null: not known, or infinite
    factor = Interval(**{name: nan if end is None else end for name, end in ends.items()})
    factor = inverse(factor) if arm["entropy_coef"] else factor
    if factor.high <= CLAIM:
        verdict = "the data bear it out"
    else:
        verdict = "the data contradict it" if factor.low > CLAIM else "the data do not decide it"
    return (
        "The hypothesis that the entropy bonus lowers the variance of the actor's loss by at least 15 % "
        f"({contrast['arm']} against {contrast['reference']}): {verdict}. With the bonus the variance over a run's "
        f"updates is {estimate(factor, ratio)} of that without it; 0.85 or less would be needed."
    )


if __name__ == "__main__":
    main()
