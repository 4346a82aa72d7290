"""What a study has found: the plain data that its tables, figures and pages are made from, and nothing else."""

from dataclasses import dataclass, field
from typing import Any

from workers.runs.records import Evaluation, Summary


@dataclass(frozen=True, slots=True)
class LogRow:
    """A row of updates.csv, which a run writes where --log-interval asks for it."""

    updates: int
    env_steps: int
    mean_return: float  # of the last episodes, sampled actions; NaN before the first
    advantage_magnitude: float  # mean of |G_t - V(s_t)| over the interval's steps


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run of a study."""

    arm: str  # the name of its arm
    seed: int
    path: str  # of its run directory, relative to the study's
    summary: Summary
    evaluations: tuple[Evaluation, ...]  # oldest first
    staleness: tuple[int, ...]  # pushes by their staleness: 0, 1, 2, ... shared updates; the last counts all larger
    log: tuple[LogRow, ...] = ()
    made_with: dict[str, Any] = field(default_factory=dict)  # commit, source, packages, machine: its config.json


@dataclass(frozen=True, slots=True)
class Version:
    """What some runs of a study were made with."""

    name: str  # short, and no other version's in the study
    facts: dict[str, Any]  # git_commit, source_sha256, versions of packages, machine
    runs: tuple[str, ...]  # their directories, relative to the study's


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval; math.inf stands for "not within the budget", NaN for "not known"."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Passage:
    """How long an arm's runs took to the target; a run that never reached it took infinitely long."""

    median: Interval
    iqm: Interval  # mean of the middle half of the runs; infinite where one of these never got there
    censored: int  # runs that never got there


@dataclass(frozen=True, slots=True)
class Band:
    """A curve over all seeds of an arm."""

    x: tuple[float, ...]
    middle: tuple[float, ...]  # interquartile mean over seeds
    low: tuple[float, ...]  # 95 % interval of the middle
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LostUpdates:
    """What a push without a lock loses at an arm's workers and network size (`workers.comparison.lost_updates`)."""

    updates: int
    lost: float  # share of the element updates of these that another worker's overwrote: exact
    overlapped: float  # share of the pushes during which another push was under way
    torn: float  # share of the pulls during which a push was under way


@dataclass(frozen=True, slots=True)
class GradientVariance:
    """How an arm's policy gradient varies from episode to episode (`workers.comparison.gradient_variance`)."""

    variance: Interval  # the trace of its covariance matrix
    ratio: Interval  # to that of the first arm that was measured, of the same episodes
    squared_mean: float  # of the mean gradient over all episodes: the signal
    episodes: int
    env_steps: int  # of these


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One arm: every run that has the same values of the factors."""

    name: str  # the values of its factors: "async", "4 workers", "async, 4 workers"
    values: dict[str, Any]  # by option name
    runs: int
    solved_runs: int
    solved: Interval  # share of the runs
    env_steps: Passage  # to the target
    seconds: Passage  # of training, to the target
    steps_per_second: Interval  # median over runs, as are the intervals that follow
    best_return: Interval  # mean return of a run's best evaluation
    updates: Interval  # optimizer steps in all
    cpu_cores: Interval  # CPU seconds of the workers per second of training
    overlapped_pushes: Interval  # share of a run's pushes during which another was under way
    torn_pulls: Interval  # share of a run's pulls during which a push was under way
    advantage_magnitude: Interval  # mean of |G_t - V(s_t)| over a run
    policy_loss_variance: Interval  # of the updates' policy losses, within a run
    critic_explained_variance: Interval  # on held-out episodes, median over a run's evaluations
    staleness_mean: float  # over the pushes of all runs, as are the next three
    staleness_p50: float
    staleness_p95: float
    staleness_max: int
    staleness: tuple[int, ...]  # pushes of all runs by their staleness
    lost_updates: LostUpdates | None  # None where it was not measured
    over_env_steps: Band  # mean return of evaluations
    over_seconds: Band
    advantage_over_env_steps: Band  # its magnitude; empty where the runs were not logged
    gradient: GradientVariance | None = None  # None where it was not measured


@dataclass(frozen=True, slots=True)
class Contrast:
    """An arm beside the study's reference, which is its first arm."""

    arm: str
    reference: str
    fewer_env_steps: Interval  # probability that a run of the arm gets to the target with fewer env steps; ties half
    sooner: Interval  # probability that it gets there in less time
    env_steps_ratio: Interval  # median of the reference / median of the arm: above 1 where the arm needs fewer
    seconds_ratio: Interval  # the same of seconds: the speed-up
    policy_loss_variance_ratio: Interval  # median of the reference / median of the arm


@dataclass(frozen=True, slots=True)
class Comparison:
    """The whole study."""

    command: str  # what was typed
    env_id: str
    target_return: float | None
    max_env_steps: int  # the budget, the largest of all arms
    factors: dict[str, tuple[Any, ...]]  # the values that were compared, by option name
    options: dict[str, Any]  # the value of every option that all arms share
    tuned: bool  # each mode used its own best setting; else all arms the same
    seeds: tuple[int, ...]
    machine: dict[str, Any]  # cpus, platform, versions of packages, git commit: of all runs
    planned_runs: int
    runs: tuple[Run, ...]  # in the order of arms, then seeds
    arms: tuple[ArmResult, ...]  # in the order of the factors' values
    contrasts: tuple[Contrast, ...]
    versions: tuple[Version, ...] = ()  # that made the runs: one, unless the user wanted runs of several
