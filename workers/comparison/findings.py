"""What a study shows in plain sentences, what it does not show, and how it was made."""

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any

from workers.comparison.entropy import entropy_findings
from workers.comparison.results import ArmResult, Comparison, Interval
from workers.comparison.stored_runs import diverged, version_runs
from workers.comparison.text import budget_of, estimate, percent, plural, runs_of, target_of
from workers.comparison.verdicts import contrast_findings, enough_runs, scaling_findings

FEW_RUNS = 10  # an arm with fewer gets a sentence on how little they tell
FEWEST_COVERED = 5  # with fewer, no interval between samples can hold a median 95 times in 100

METHOD: tuple[str, ...] = (
    "Solved: the greedy policy of one consistent snapshot reaches the target as the mean of 100 episodes, and then "
    "again as the mean of 100 episodes with fresh seeds. The env steps and seconds of a run are those at which that "
    "snapshot was taken.",
    "Censoring: a run that spends its budget unsolved, or diverges, counts as one that takes infinitely long. It is "
    "never left out, and never counted as if it had arrived at the budget. A median over runs is “not within the "
    "budget” where half of them or more are censored. The interquartile mean (IQM) is the mean of the middle half of "
    "the runs, and infinite where one of these is censored.",
    "Intervals hold 95 %. Those of medians and IQMs are percentile bootstrap intervals, expanded for few runs "
    "(Hesterberg 2015); those of ratios of medians are plain percentile bootstrap intervals; those of shares of "
    "solved runs are Wilson's score intervals. In simulations they cover the truth 92 to 98 times in 100 from five "
    "runs on. For three runs no interval between samples covers a median more often than 75 times in 100.",
    "The probability that a run of one arm beats a run of another is the Mann-Whitney estimate: the share of all pairs "
    "of their runs in which it does. Ties count half, and two censored runs tie. Its interval is Newcombe's score "
    "interval (2006, method 5). Two arms are told apart only where it leaves out 0.5, and where there are enough runs "
    "for a clean sweep to be no chance result.",
    "Learning curves: a run is a step function, its last evaluation stands until the next one, and after a solved run "
    "its last evaluation stands. A curve begins where every run of the arm has been evaluated; runs that never were, "
    "and returns that are not finite, are left out. The line is the IQM over the seeds of an arm; the band is its 95 % "
    "interval at each point by itself, not of the curve as a whole.",
    "The share of runs solved so far is the Kaplan-Meier estimate with its pointwise 95 % band. The log-rank test "
    "compares two of these curves as a whole, so it can disagree with the probability above.",
    "Runs go one at a time. Arms are interleaved, and their order is rotated from seed to seed, so that a machine that "
    "grows slow or busy does so for all of them.",
    "Seconds are seconds of training, from the moment the first worker is ready to act. Starting the program and its "
    "processes is left out.",
    "Staleness is the number of shared updates made by anyone between a worker's pull and its push. Overlapped pushes "
    "and torn pulls are counted in the runs, and are upper bounds: of the updates that may have lost elements, and of "
    "the pulls that may have mixed two generations. Overwritten element updates are measured exactly, in a run of "
    "their own beside the study.",
)


def findings(comparison: Comparison) -> list[str]:
    """What the data show and what they do not tell, most important first; plain text, not markup."""
    if not comparison.runs:
        return ["No run has finished yet: there is nothing to tell."]
    sentences = [*_unfinished(comparison), *_mixed(comparison)]
    if comparison.target_return is None:
        sentences += _best_returns(comparison)
    else:
        for contrast in comparison.contrasts:
            sentences += contrast_findings(comparison, contrast)
        sentences += [*_arrivals(comparison), *_medians(comparison)]
    sentences += [*_diverged(comparison), *_unevaluated(comparison)]
    sentences += [*scaling_findings(comparison), *entropy_findings(comparison), *_precision(comparison)]
    return sentences + [sentence for arm in comparison.arms for sentence in _races(comparison, arm)]


def limits(comparison: Comparison) -> list[str]:
    """What cannot be concluded from the study."""
    cores = cores_of(comparison.machine)
    known = "one machine" if cores is None else f"one machine with {plural(cores, 'core')}"
    machines = {(version.facts.get("platform"), version.facts.get("cpus")) for version in comparison.versions}
    machine = known if len(machines) < 2 else f"{len(machines)} machines, which are not comparable"
    return [
        f"This is one environment ({comparison.env_id}), one network and these settings. Nothing here carries over to "
        "others by itself.",
        _settings_limit(comparison),
        f"Seconds and env steps per second are those of {machine}, with whatever else it did at the time. Where "
        "workers run asynchronously, env steps to the target depend on the machine too: it decides whose push is next.",
        *_crowding(comparison, cores),
        "All arms have the same seeds, and so the same first parameters and environments. Asynchronous runs with the "
        "same seed still differ every time, so runs are compared as independent ones, not as pairs.",
        "That no difference was found does not mean that there is none: the interval says how large it may still be.",
    ]


def cores_of(machine: dict[str, Any]) -> int | None:
    """CPU cores, where they are known."""
    cores = machine.get("cpus")
    return cores if isinstance(cores, int) else None


def _settings_limit(comparison: Comparison) -> str:
    if comparison.tuned:
        return (
            "Each arm started from the best setting found for its mode. The searches were finite: the arms are "
            "compared at these settings, not at the best there are."
        )
    sentence = "All arms have the same hyper-parameters, which may suit one of them better than another."
    if "mode" not in comparison.factors:
        return sentence
    return (
        f"{sentence} The program's defaults were found by a search with asynchronous workers; where they were "
        "kept, the comparison may favour async."
    )


def _crowding(comparison: Comparison, cores: int | None) -> Iterator[str]:
    counts = [arm.values.get("workers", comparison.options.get("workers")) for arm in comparison.arms]
    workers = max((workers for workers in counts if isinstance(workers, int)), default=0)
    if cores is not None and workers > cores:
        yield (
            f"Up to {workers} workers, and the monitor beside them, took turns on {plural(cores, 'core')}. This "
            "says little about as many workers with a core each."
        )


def _unfinished(comparison: Comparison) -> Iterator[str]:
    if len(comparison.runs) < comparison.planned_runs:
        yield (
            f"The study is not finished: {len(comparison.runs)} of {plural(comparison.planned_runs, 'planned run')} "
            "are there. What follows may change."
        )


def _mixed(comparison: Comparison) -> Iterator[str]:
    if len(comparison.versions) > 1:
        told = "; ".join(version_runs(version) for version in comparison.versions)
        yield (
            f"The runs were made by {len(comparison.versions)} versions of the program or its packages, or on other "
            f"machines, so arms may differ for that reason alone: {told} (every run: runs.csv)."
        )


def _diverged(comparison: Comparison) -> Iterator[str]:
    for arm in comparison.arms:
        if many := sum(diverged(run.summary) for run in runs_of(comparison, arm.name)):
            yield (
                f"{many} of {plural(arm.runs, 'run')} of {arm.name} diverged: numbers did not stay finite. That is "
                "an outcome, and counts as never having reached a target."
            )


def _unevaluated(comparison: Comparison) -> Iterator[str]:
    for arm in comparison.arms:
        if many := sum(not run.evaluations for run in runs_of(comparison, arm.name)):
            yield (
                f"{many} of {plural(arm.runs, 'run')} of {arm.name} ended without an evaluation: the learning "
                "curve and the best return are those of the others."
            )


def _arrivals(comparison: Comparison) -> Iterator[str]:
    """How many runs got to the target, arm by arm where some did not."""
    target = target_of(comparison)
    if all(run.summary.status == "solved" for run in comparison.runs):
        yield f"Every run reached {target}: {len(comparison.runs)} of {len(comparison.runs)}."
    for arm in comparison.arms:
        unsolved, within = arm.runs - arm.solved_runs, f"within {budget_of(comparison, arm.name):,} env steps"
        count = "they count" if unsolved > 1 else "it counts"
        if unsolved and arm.solved_runs:
            yield (
                f"{unsolved} of {plural(arm.runs, 'run')} of {arm.name} never reached {target} {within}; {count} as "
                "infinitely long, not left out."
            )
        elif unsolved:
            yield f"None of the {plural(arm.runs, 'run')} of {arm.name} reached {target} {within}."


def _medians(comparison: Comparison) -> Iterator[str]:
    arms = [arm for arm in comparison.arms if arm.runs]
    if not any(arm.solved_runs for arm in arms):
        return
    for unit, passages in (
        ("env steps", [arm.env_steps for arm in arms]),
        ("seconds of training", [arm.seconds for arm in arms]),
    ):
        told = [f"{arm.name}: {estimate(passage.median)}" for arm, passage in zip(arms, passages, strict=True)]
        yield f"Median {unit} to {target_of(comparison)} (95 % interval): {'; '.join(told)}."


def _best_returns(comparison: Comparison) -> Iterator[str]:
    """Without a target: the best evaluations, and whether their intervals keep apart."""
    arms = [arm for arm in comparison.arms if isfinite(arm.best_return.value)]
    if not arms:
        return
    told = [f"{arm.name}: {estimate(arm.best_return)}" for arm in arms]
    yield (
        "There was no target that all arms share. Mean return of the best evaluation, median over runs "
        f"(95 % interval): {'; '.join(told)}."
    )
    for arm in arms[1:]:
        yield _best_contrast(arms[0], arm)


def _best_contrast(reference: ArmResult, arm: ArmResult) -> str:
    worse, better = sorted((reference, arm), key=lambda result: result.best_return.value)
    if better.best_return.low > worse.best_return.high and enough_runs(arm.runs, reference.runs):
        return f"{better.name} reached the higher best return: its interval and that of {worse.name} do not overlap."
    return f"The data do not tell whether {reference.name} or {arm.name} reaches the higher best return."


def _precision(comparison: Comparison) -> Iterator[str]:
    """What few runs and many looks do to the intervals."""
    fewest = min(arm.runs for arm in comparison.arms if arm.runs)
    contrasts = comparison.contrasts if comparison.target_return is not None else ()
    chances = [chance for contrast in contrasts for chance in (contrast.fewer_env_steps, contrast.sooner)]
    widths = [chance.high - chance.low for chance in chances if isfinite(chance.low)]
    if fewest < FEW_RUNS:
        yield f"With only {plural(fewest, 'run')} in an arm the intervals are wide{_width_words(widths)}."
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
    if len(comparison.arms) > 2 and comparison.target_return is not None:
        yield (
            f"The intervals are not corrected for looking at {len(contrasts)} contrasts, each by env steps and by "
            "seconds: the more one looks at, the sooner one of them leaves out 0.5 by chance."
        )


def _width_words(widths: Sequence[float]) -> str:
    if not widths:
        return ""
    return f": those of the probabilities are {sum(widths) / len(widths):.2f} wide on average, and 1 would say nothing"


def _races(comparison: Comparison, arm: ArmResult) -> Iterator[str]:
    """Staleness and what was lost, for an arm whose workers do not wait for each other."""
    if not sum(arm.staleness) or arm.values.get("mode", comparison.options.get("mode")) == "sync":
        return
    if arm.staleness_max == 0:
        yield f"{arm.name}: no gradient was stale when it was applied."
        return
    age = (
        f"{arm.name}: a gradient was on average {arm.staleness_mean:.1f} updates old when it was applied (95 % at "
        f"most {arm.staleness_p95:.0f}, none above {arm.staleness_max})"
    )
    met = (
        f"{_part(arm.overlapped_pushes)} of the pushes overlapped another one and {_part(arm.torn_pulls)} of the "
        "pulls were torn"
    )
    lost = arm.lost_updates
    overwritten = f"; measured apart, {percent(lost.lost)} of all element updates were overwritten" if lost else ""
    yield f"{age}; {met}{overwritten}."


def _part(share: Interval) -> str:
    return "none" if share.value == 0 else percent(share.value)
