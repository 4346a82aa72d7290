"""Plain data about a run, from which the console, the metrics and the summary are made; `None`: not known yet."""

from dataclasses import dataclass, field

from a3c.config import Config


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Greedy episodes of one snapshot of the shared policy."""

    env_steps: int  # of all workers, when the snapshot was taken
    updates: int  # shared optimizer steps, when the snapshot was taken
    seconds: float  # since training started, when the snapshot was taken
    episodes: int
    mean: float  # of the undiscounted episode returns
    std: float
    min: float
    max: float
    seed: int
    verification: bool = False  # the second evaluation, with fresh seeds, that decides "solved"
    critic_explained_variance: float | None = None  # on held-out episodes, as are the next two; None: not measured
    critic_slope: float | None = None  # of the line that predicts returns from values
    critic_bias: float | None = None  # mean of value - return

    @property
    def critic(self) -> str:
        """How good the critic was, in a few words; "" where it was not measured."""
        if None in (self.critic_explained_variance, self.critic_slope, self.critic_bias):
            return ""
        return (
            f"explained variance {self.critic_explained_variance:.2f}, slope {self.critic_slope:.2f}, "
            f"bias {self.critic_bias:+.3g}"
        )

    def is_solution(self, target: float) -> bool:
        """Whether this decides that the run is solved."""
        return self.verification and self.mean >= target


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the run, as `events.jsonl` keeps it and the dashboard shows it."""

    seconds: float  # since the command was typed
    kind: str  # started, resumed, warning, evaluated, verified, checkpointed, unsaved, crashed, hung, restarted,
    # rolled-back, interrupted, stopped
    message: str  # one line


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One actor-learner."""

    worker_index: int
    state: str = "starting"  # running, stopped, dead, restarting (dead, and about to be replaced)
    pid: int | None = None
    env_steps: int = 0
    steps_per_second: float = 0.0  # over the last interval
    updates: int = 0
    episodes: int = 0
    mean_return: float | None = None  # of its last episodes (at most 100)
    staleness: float | None = None  # mean over the last interval, in shared updates
    cpu_percent: float | None = None  # of one core
    memory_bytes: int | None = None  # resident set
    restarts: int = 0  # how often its process has been replaced
    node: str = ""  # the cluster's node that it is on; "": the run's own machine


@dataclass(frozen=True, slots=True)
class Losses:
    """Means over the updates of an interval."""

    policy_loss: float
    value_loss: float
    entropy: float  # nats
    explained_variance: float  # 1 is perfect, 0 is no better than a constant
    gradient_norm: float  # before clipping
    learning_rate: float


@dataclass(frozen=True, slots=True)
class Faults:
    """What went wrong and was survived, since the start of the run."""

    worker_restarts: int = 0  # actor-learners that died or hung and were replaced, their rollouts dropped
    monitor_restarts: int = 0
    observations: int = 0  # rollouts dropped because one of their observations was not finite
    rewards: int = 0  # the same of rewards
    gradients: int = 0  # gradients refused because they were not finite
    stale_gradients: int = 0  # not applied, because they were older than max_staleness
    rollbacks: int = 0  # of shared parameters that had gone non-finite, to the last good copy
    failed_saves: int = 0  # checkpoints that the disk refused
    failed_evaluations: int = 0  # evaluations in which the environment failed
    checkpointer_restarts: int = 0


@dataclass(frozen=True, slots=True)
class Staleness:
    """Shared updates made by anyone between a worker's pull and its push, over all pushes of a run."""

    mean: float
    p50: float
    p95: float
    max: int


@dataclass(frozen=True, slots=True)
class Races:
    """How often workers met in the shared parameters, over all pulls and pushes of a run."""

    overlapped_pushes: int  # pushes during which another push was under way: those that may have lost elements
    torn_pulls: int  # pulls during which a push was under way: those that may mix two generations


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a run is, and what it has done so far."""

    env_id: str
    mode: str
    seed: int
    max_env_steps: int
    target_return: float | None  # None: the environment names no threshold and none was given
    eval_actions: str = "greedy"  # or "sampled": of the evaluations
    env_steps: int = 0  # all workers together
    updates: int = 0
    episodes: int = 0
    train_seconds: float = 0.0  # since the first worker started to act; 0.0 before
    steps_per_second: float = 0.0  # over the last interval; in a summary env_steps / train_seconds
    staleness: Staleness | None = None  # over the whole run
    faults: Faults = Faults()


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Totals):
    """The whole run at one moment."""

    run_dir: str
    elapsed_seconds: float  # since the command was typed
    workers: tuple[WorkerStatus, ...]
    phase: str = "starting"  # training, verifying, stopping, then the status of the summary: solved, ...
    mean_return: float | None = None  # of the workers' last episodes, sampled actions
    evaluations: tuple[Evaluation, ...] = ()  # oldest first
    best: Evaluation | None = None
    time_shares: dict[str, float] = field(default_factory=dict)  # of the workers' time, by phase and "other"
    losses: Losses | None = None
    monitor_cpu_percent: float | None = None
    events: tuple[Event, ...] = ()  # oldest first

    @property
    def latest(self) -> Evaluation | None:
        """The latest evaluation."""
        return self.evaluations[-1] if self.evaluations else None

    @property
    def best_shown(self) -> Evaluation | None:
        """The best evaluation, never one below the latest: that may be about to be verified, or to be saved."""
        latest, best = self.latest, self.best
        return latest if latest and (best is None or latest.mean > best.mean) else best


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary(Totals):
    """How a run ended: `summary.json`, field for field, and the last thing the console shows."""

    status: str  # solved, budget_exhausted, interrupted, failed
    workers: int
    wall_seconds: float  # since the command was typed
    solved_env_steps: int | None  # when the verified snapshot was taken
    solved_seconds: float | None  # the same moment, since training started
    evaluation: Evaluation | None  # of the best snapshot, which is `checkpoint`; the verification where it is solved
    races: Races
    cpu_seconds: float  # of the workers, since their start
    profile: tuple[dict[str, float], ...]  # seconds of each worker by phase, and its "cpu" and "wall" seconds
    advantage_magnitude: float | None  # mean of |G_t - V(s_t)| over all steps
    policy_loss_variance: float | None  # over the updates
    worker_restarts: int
    state_sha256: str  # of the shared parameters and moments at the end: what `sync` reproduces
    checkpoint: str | None  # path relative to the run directory
    reason: str  # why it ended, one line
    exit_code: int | None = None  # the program's: 5 where the numbers diverged; None in files that older versions wrote


def starting(config: Config, run_dir: str, elapsed_seconds: float) -> Status:
    """The status of a run whose processes have not started yet."""
    return Status(
        env_id=config.env,
        mode=config.mode,
        seed=config.seed,
        max_env_steps=config.max_env_steps,
        target_return=config.evaluation.target_return,
        eval_actions=config.evaluation.eval_actions,
        run_dir=run_dir,
        elapsed_seconds=elapsed_seconds,
        workers=tuple(map(WorkerStatus, range(config.workers))),
    )
