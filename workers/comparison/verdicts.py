"""Which of two arms is the faster one, and whether the data tell."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import comb, isfinite, isnan, nan

from workers.comparison.results import ArmResult, Comparison, Contrast, Interval
from workers.comparison.text import estimate, inverse, probability, ratio, target_of, times


@dataclass(frozen=True, slots=True)
class Measure:
    """A way to say how long a run takes."""

    better: str  # how the winner got to the target
    question: str  # the same, where it is asked
    much: str


ENV_STEPS = Measure("with fewer env steps", "with fewer env steps", "many")
SECONDS = Measure("in less time", "sooner", "long")


def verdict(chance: Interval, runs: int, other_runs: int) -> int:
    """1 where the data tell that the arm beats the other, -1 where it is beaten, 0 where they do not tell.

    Too few runs never tell, whatever their interval: that each of three runs is faster than each of three others
    happens by chance in one of ten studies, counting both ways round.
    """
    if isnan(chance.low) or isnan(chance.high) or not enough_runs(runs, other_runs):
        return 0
    return int(chance.low > 0.5) - int(chance.high < 0.5)


def enough_runs(runs: int, other_runs: int) -> bool:
    """Whether a clean sweep, either way, has a chance of at most 5 % among all orders of equally good runs."""
    return 2 / comb(runs + other_runs, runs) <= 0.05


def arm_result(comparison: Comparison, name: str) -> ArmResult:
    """The arm of that name."""
    return next(arm for arm in comparison.arms if arm.name == name)


def contrast_findings(comparison: Comparison, contrast: Contrast) -> Iterator[str]:
    """A contrast by env steps, by seconds, and whether these go opposite ways."""
    arm, reference = arm_result(comparison, contrast.arm), arm_result(comparison, contrast.reference)
    target = target_of(comparison)
    if arm.solved_runs == reference.solved_runs == 0:
        yield f"Neither {reference.name} nor {arm.name} ever reached {target}: the data do not tell which is faster."
        return
    sides = []
    for measure, chance, factor in (
        (ENV_STEPS, contrast.fewer_env_steps, contrast.env_steps_ratio),
        (SECONDS, contrast.sooner, contrast.seconds_ratio),
    ):
        sides.append(verdict(chance, arm.runs, reference.runs))
        if chance.value > 0.5:
            yield _told(target, measure, arm.name, reference.name, chance, factor, sides[-1] != 0)
        else:  # told from the other side
            turned = Interval(1 - chance.value, 1 - chance.high, 1 - chance.low)
            yield _told(target, measure, reference.name, arm.name, turned, inverse(factor), sides[-1] != 0)
    if sides in ([1, -1], [-1, 1]):
        frugal, quick = (arm.name, reference.name) if sides[0] > 0 else (reference.name, arm.name)
        yield (
            f"So the two measures go opposite ways: {frugal} needs fewer env steps, and {quick} is there sooner all "
            "the same, because it makes its env steps faster."
        )


def scaling_findings(comparison: Comparison) -> Iterator[str]:
    """The speed-up, for arms that differ from the first in their workers alone."""
    if "workers" not in comparison.factors:
        return
    for contrast in comparison.contrasts:
        arm, reference = arm_result(comparison, contrast.arm), arm_result(comparison, contrast.reference)
        if {**arm.values, "workers": None} == {**reference.values, "workers": None}:
            yield _scaling(comparison, contrast, arm, reference)


def _told(
    target: str, measure: Measure, ahead: str, behind: str, chance: Interval, factor: Interval, sure: bool
) -> str:
    if isnan(chance.value):
        return f"Whether {ahead} or {behind} reaches {target} {measure.question} is not known yet."
    beats = (
        f"a run of {ahead} beats one of {behind} with probability {probability(chance.value)} (95 % interval "
        f"{probability(chance.low)} to {probability(chance.high)})"
    )
    if not sure:
        return f"The data do not tell whether {ahead} or {behind} reaches {target} {measure.question}: {beats}."
    medians = f"; in the median {behind} needs {times(factor)} as {measure.much}" if times(factor) else ""
    return f"{ahead} reached {target} {measure.better} than {behind}: {beats}{medians}."


def _scaling(comparison: Comparison, contrast: Contrast, arm: ArmResult, reference: ArmResult) -> str:
    speed_ups = []
    if comparison.target_return is not None and isfinite(contrast.seconds_ratio.value):
        told = estimate(contrast.seconds_ratio, ratio)
        speed_ups.append(f"{told} in the median seconds to {target_of(comparison)}")
    rate = arm.steps_per_second.value / reference.steps_per_second.value if reference.steps_per_second.value else nan
    if isfinite(rate):
        speed_ups.append(f"{ratio(rate)} in env steps per second")
    if not speed_ups:
        return f"{arm.name} against {reference.name}: no speed-up can be told."
    ideal = arm.values["workers"] / reference.values["workers"]
    return (
        f"{arm.name} against {reference.name}: a speed-up of {' and '.join(speed_ups)}, where {ratio(ideal)} is ideal."
    )
