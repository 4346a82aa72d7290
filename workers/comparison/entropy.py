"""The hypothesis of the actor-critic tutorials: an entropy bonus lowers the actor's variance by at least 15 %."""

from collections.abc import Iterator

from workers.comparison.results import Comparison, Contrast, Interval
from workers.comparison.text import estimate, inverse, ratio
from workers.comparison.verdicts import arm_result

CLAIM = 0.85  # the variance with the bonus over the variance without it, at most


def entropy_findings(comparison: Comparison) -> Iterator[str]:
    """The hypothesis, tested wherever two arms differ in having the bonus alone."""
    for contrast in comparison.contrasts:
        if (with_over_without := _variance_with_bonus(comparison, contrast)) is not None:
            yield _verdict(with_over_without, contrast)


def _variance_with_bonus(comparison: Comparison, contrast: Contrast) -> Interval | None:
    """Variance of the policy loss with the bonus over that without it; None where the arms differ otherwise."""
    reference, arm = (arm_result(comparison, name).values for name in (contrast.reference, contrast.arm))
    if "entropy_coef" not in arm or {**arm, "entropy_coef": 0} != {**reference, "entropy_coef": 0}:
        return None
    if bool(arm["entropy_coef"]) == bool(reference["entropy_coef"]):
        return None
    factor = contrast.policy_loss_variance_ratio  # reference over arm
    return inverse(factor) if arm["entropy_coef"] else factor


def _verdict(factor: Interval, contrast: Contrast) -> str:
    if factor.high <= CLAIM:
        verdict = "the data bear it out"
    elif factor.low > CLAIM:
        verdict = "the data contradict it"
    else:
        verdict = "the data do not decide it"
    return (
        f"The hypothesis that the entropy bonus lowers the variance of the actor's loss by at least 15 % "
        f"({contrast.arm} against {contrast.reference}): {verdict}. With the bonus the variance over a run's "
        f"updates is {estimate(factor, ratio)} of that without it; 0.85 or less would be needed."
    )
