"""What a study shows, and what it does not tell, in plain sentences."""

from collections.abc import Iterator
from itertools import chain
from math import comb, isfinite, isnan, nan

from workers.comparison.results import ArmResult, Comparison, Contrast, Interval
from workers.comparison.stored_runs import diverged, version_runs
from workers.comparison.text import (
    budget_of,
    estimate,
    inverse,
    percent,
    plural,
    probability,
    ratio,
    runs_of,
    target_of,
    times,
)

FEW_RUNS = 10  # an arm with fewer gets a sentence on how little they tell
FEWEST_COVERED = 5  # with fewer, no interval between samples can hold a median 95 times in 100
MEASURES = (  # how the winner reached the target, the same in a question, and what the loser needs so many times as
    ("with fewer env steps", "with fewer env steps", "many"),
    ("in less time", "sooner", "long"),
)


def findings(comparison: Comparison) -> list[str]:
    """What the data show and what they do not tell, most important first; plain text, not markup."""
    if not comparison.runs:
        return ["No run has finished yet: there is nothing to tell."]
    parts = [_provenance(comparison)]
    if comparison.target_return is None:
        parts.append(_best_returns(comparison))
    else:
        parts += [_contrast(comparison, contrast) for contrast in comparison.contrasts]
        parts += [_arrivals(comparison), _medians(comparison)]
    parts += [_gradients(comparison), _exceptions(comparison), _scaling(comparison), _precision(comparison)]
    parts += [_races(comparison, arm) for arm in comparison.arms]
    return list(chain.from_iterable(parts))


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


def arms_of(comparison: Comparison, contrast: Contrast) -> tuple[ArmResult, ArmResult]:
    """The arm of a contrast, and its reference."""
    by_name = {arm.name: arm for arm in comparison.arms}
    return by_name[contrast.arm], by_name[contrast.reference]


def _provenance(comparison: Comparison) -> Iterator[str]:
    if len(comparison.runs) < comparison.planned_runs:
        yield (
            f"The study is not finished: {len(comparison.runs)} of {plural(comparison.planned_runs, 'planned run')} "
            "are there. What follows may change."
        )
    if len(comparison.versions) > 1:
        yield (
            f"The runs were made by {len(comparison.versions)} versions of the program or its packages, or on other "
            "machines, so arms may differ for that reason alone: "
            f"{'; '.join(map(version_runs, comparison.versions))} (every run: runs.csv)."
        )


def _best_returns(comparison: Comparison) -> Iterator[str]:
    """Without a target: the best evaluations, and whether their intervals keep apart."""
    arms = [arm for arm in comparison.arms if isfinite(arm.best_return.value)]
    if arms:
        yield (
            "There was no target that all arms share. Mean return of the best evaluation, median over runs "
            f"(95 % interval): {'; '.join(f'{arm.name}: {estimate(arm.best_return)}' for arm in arms)}."
        )
    for arm in arms[1:]:
        worse, better = sorted((arms[0], arm), key=lambda result: result.best_return.value)
        if better.best_return.low > worse.best_return.high and enough_runs(arm.runs, arms[0].runs):
            yield f"{better.name} reached the higher best return: its interval and that of {worse.name} do not overlap."
        else:
            yield f"The data do not tell whether {arms[0].name} or {arm.name} reaches the higher best return."


def _contrast(comparison: Comparison, contrast: Contrast) -> Iterator[str]:
    """Two arms by env steps, by seconds, and whether these go opposite ways."""
    arm, reference = arms_of(comparison, contrast)
    target = target_of(comparison)
    if arm.solved_runs == reference.solved_runs == 0:
        yield f"Neither {reference.name} nor {arm.name} ever reached {target}: the data do not tell which is faster."
        return
    verdicts = []
    chances = (contrast.fewer_env_steps, contrast.env_steps_ratio), (contrast.sooner, contrast.seconds_ratio)
    for (better, question, much), (chance, factor) in zip(MEASURES, chances, strict=True):
        verdicts.append(verdict(chance, arm.runs, reference.runs))
        ahead, behind = arm.name, reference.name
        if not chance.value > 0.5:  # said from the other side
            ahead, behind, factor = behind, ahead, inverse(factor)
            chance = Interval(1 - chance.value, 1 - chance.high, 1 - chance.low)
        beats = (
            f"a run of {ahead} beats one of {behind} with probability {probability(chance.value)} (95 % interval "
            f"{probability(chance.low)} to {probability(chance.high)})"
        )
        if isnan(chance.value):
            yield f"Whether {ahead} or {behind} reaches {target} {question} is not known yet."
        elif not verdicts[-1]:
            yield f"The data do not tell whether {ahead} or {behind} reaches {target} {question}: {beats}."
        else:
            medians = f"; in the median {behind} needs {times(factor)} as {much}" if times(factor) else ""
            yield f"{ahead} reached {target} {better} than {behind}: {beats}{medians}."
    if verdicts in ([1, -1], [-1, 1]):
        frugal, quick = (arm.name, reference.name) if verdicts[0] > 0 else (reference.name, arm.name)
        yield (
            f"So the two measures go opposite ways: {frugal} needs fewer env steps, and {quick} is there sooner all "
            "the same, because it makes its env steps faster."
        )


def _arrivals(comparison: Comparison) -> Iterator[str]:
    """How many runs reached the target, arm by arm where some did not."""
    target = target_of(comparison)
    if all(run.summary.status == "solved" for run in comparison.runs):
        yield f"Every run reached {target}: {len(comparison.runs)} of {len(comparison.runs)}."
    for arm in comparison.arms:
        unsolved, within = arm.runs - arm.solved_runs, f"within {budget_of(comparison, arm.name):,} env steps"
        if unsolved and arm.solved_runs:
            yield (
                f"{unsolved} of {plural(arm.runs, 'run')} of {arm.name} never reached {target} {within}; "
                f"{'they count' if unsolved > 1 else 'it counts'} as infinitely long, not left out."
            )
        elif unsolved:
            yield f"None of the {plural(arm.runs, 'run')} of {arm.name} reached {target} {within}."


def _medians(comparison: Comparison) -> Iterator[str]:
    arms = [arm for arm in comparison.arms if arm.runs]
    if any(arm.solved_runs for arm in arms):
        steps = "; ".join(f"{arm.name}: {estimate(arm.env_steps.median)}" for arm in arms)
        seconds = "; ".join(f"{arm.name}: {estimate(arm.seconds.median)}" for arm in arms)
        yield f"Median env steps to {target_of(comparison)} (95 % interval): {steps}."
        yield f"Median seconds of training to {target_of(comparison)} (95 % interval): {seconds}."


def _exceptions(comparison: Comparison) -> Iterator[str]:
    for arm in comparison.arms:
        runs = runs_of(comparison, arm.name)
        if many := sum(diverged(run.summary) for run in runs):
            yield (
                f"{many} of {plural(arm.runs, 'run')} of {arm.name} diverged: numbers did not stay finite. That is "
                "an outcome, and counts as never having reached a target."
            )
        if many := sum(not run.evaluations for run in runs):
            yield (
                f"{many} of {plural(arm.runs, 'run')} of {arm.name} ended without an evaluation: the learning "
                "curve and the best return are those of the others."
            )


def _gradients(comparison: Comparison) -> Iterator[str]:
    """How much each estimator's gradient varies, beside the first one's."""
    measured = [(arm.name, arm.gradient) for arm in comparison.arms if arm.gradient is not None]
    for name, gradient in measured[1:]:
        change, reference = gradient.ratio, measured[0][0]
        more, told = change.value > 1, change.low > 1 or change.high < 1
        if not told:
            yield f"The data do not tell whether the gradient of {name} or of {reference} varies more."
            continue
        yield (
            f"At equal parameters and on the same {gradient.episodes} episodes the gradient of {name} has "
            f"{estimate(change)} times the variance of that of {reference}: "
            f"{'more' if more else 'less'} noise."
        )


def _scaling(comparison: Comparison) -> Iterator[str]:
    """The speed-up, for arms that differ from the first in their workers alone."""
    for contrast in comparison.contrasts if "workers" in comparison.factors else ():
        arm, reference = arms_of(comparison, contrast)
        if {**arm.values, "workers": None} != {**reference.values, "workers": None}:
            continue
        speed_ups, rate = [], reference.steps_per_second.value
        if comparison.target_return is not None and isfinite(contrast.seconds_ratio.value):
            factor = estimate(contrast.seconds_ratio, ratio)
            speed_ups.append(f"{factor} in the median seconds to {target_of(comparison)}")
        if isfinite(faster := arm.steps_per_second.value / rate if rate else nan):
            speed_ups.append(f"{ratio(faster)} in env steps per second")
        ideal = ratio(arm.values["workers"] / reference.values["workers"])
        what = (
            f"a speed-up of {' and '.join(speed_ups)}, where {ideal} is ideal" if speed_ups else "no speed-up is known"
        )
        yield f"{arm.name} against {reference.name}: {what}."


def _precision(comparison: Comparison) -> Iterator[str]:
    """What few runs and many contrasts do to the intervals."""
    fewest = min(arm.runs for arm in comparison.arms if arm.runs)
    contrasts = comparison.contrasts if comparison.target_return is not None else ()
    chances = [chance for contrast in contrasts for chance in (contrast.fewer_env_steps, contrast.sooner)]
    widths = [chance.high - chance.low for chance in chances if isfinite(chance.low)]
    if fewest < FEW_RUNS:
        mean = sum(widths) / max(len(widths), 1)
        wide = f": those of the probabilities are {mean:.2f} wide on average, and 1 would say nothing" if widths else ""
        yield f"With only {plural(fewest, 'run')} in an arm the intervals are wide{wide}."
    if 1 < fewest < FEWEST_COVERED:
        covered = 100 * (1 - 2 ** (1 - fewest))  # that not all runs lie on one side of the truth
        yield (
            f"An interval around a median of {fewest} runs holds it at most {covered:.0f} times in 100, not 95; "
            f"from {FEWEST_COVERED} runs on intervals are what they say."
        )
    if not enough_runs(fewest, fewest):
        yield (
            f"{plural(fewest, 'run')} against {fewest} cannot tell two arms apart: that every run of one beats "
            "every run of the other happens by chance too often."
        )
    if len(comparison.arms) > 2 and contrasts:
        yield (
            f"The intervals are not corrected for looking at {len(contrasts)} contrasts, each by env steps and by "
            "seconds: the more one looks at, the sooner one of them leaves out 0.5 by chance."
        )


def _races(comparison: Comparison, arm: ArmResult) -> Iterator[str]:
    """Staleness and what was lost, for an arm whose workers do not wait for each other."""
    if not sum(arm.staleness) or arm.values.get("mode", comparison.options.get("mode")) == "sync":
        return
    if arm.staleness_max == 0:
        yield f"{arm.name}: no gradient was stale when it was applied."
        return
    pushes, pulls = (
        "none" if share.value == 0 else percent(share.value) for share in (arm.overlapped_pushes, arm.torn_pulls)
    )
    lost = arm.lost_updates
    overwritten = f"; measured apart, {percent(lost.lost)} of all element updates were overwritten" if lost else ""
    yield (
        f"{arm.name}: a gradient was on average {arm.staleness_mean:.1f} updates old when it was applied (95 % at "
        f"most {arm.staleness_p95:.0f}, none above {arm.staleness_max}); {pushes} of the pushes overlapped another one "
        f"and {pulls} of the pulls were torn{overwritten}."
    )
