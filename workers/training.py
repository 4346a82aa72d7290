"""One training run from its options to its summary. This page builds all its parts, top-down.

train() or resume() -> checks -> run directory -> forkserver -> supervise() -> Supervisor.run()
torch is imported in `supervise`, beside the forkserver's own import of it: that takes most of a short run's time.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a3c.config import CheckpointError, Config, ConfigError
from a3c.files import absolute_path, leave_deleted_folder, typed_path
from workers import ExitCode
from workers.processes.signals import Signals
from workers.processes.start import check_limits, crowding, start_forkserver
from workers.runs.directory import RunDirectory, new_run_dir, open_run_directory
from workers.runs.records import Summary, starting

if TYPE_CHECKING:
    from torch import Tensor

    from a3c.environments import EnvironmentSpec
    from a3c.networks import ActorCritic
    from a3c.normalization import Normalizer
    from shared.optimizers import SharedOptimizer
    from shared.scoreboard import Scoreboard
    from shared.statistics import SharedStatistics
    from shared.store import SharedStore
    from workers.runs.log import View
    from workers.runs.resume import Resumed


def train(
    config: Config | None = None,
    *,
    run_dir: str | Path | None = None,
    dashboard: str = "auto",
    profile: bool = False,
    cluster: str | None = None,
    started: float | None = None,
    **options: Any,
) -> Summary:
    """Train until solved or the budget is spent; the same as `python run_a3c.py train`.

    Args:
        config: the options as one object; or give them by name, `train(env="CartPole-v1", workers=4, gamma=0.98)`.
            There `env` may be a class or function of a module, which makes one environment.
        run_dir: where the run's files go; default: a new directory under runs/.
        dashboard: "auto" draws live where the output is a terminal, else prints lines; "on" and "off" force it.
        profile: print at the end where each worker's time went, which the summary holds in any case.
        cluster: of Ray, whose nodes have most of the workers: its HOST:PORT, "auto" for that on this machine, or
            "local" for a private one that is started; default: all workers on this machine.
        started: a time.monotonic() from which the run's wall-clock seconds count; default: now.
    Raises ConfigError: an option, the environment or the run directory cannot be used; nothing was started.
    """
    if config is not None and options:
        raise TypeError("give either a config or options by name")
    started = time.monotonic() if started is None else started
    if callable(options.get("env")):
        from a3c.lookup import id_of

        options["env"] = id_of(options["env"])
    if config is None:
        config = Config.from_options(options)
        config.check_belonging(options)
    typed, path = checked_path("run_dir", "runs" if run_dir is None else run_dir, dashboard)
    check_limits(config)
    check_cluster(cluster)
    if config.network.device == "cuda":
        from a3c.device import device_of

        device_of(config.network.device)  # refused here, not by each worker
    environment = None  # the default one is known to be right: it does not wait for gymnasium before the forkserver
    if not config.is_default_environment:
        from workers.processes.preflight import describe_environment

        environment = describe_environment(config)
    if run_dir is None:
        path = new_run_dir(path, config)
        typed = typed / path.name
    with _opened(path, typed) as (directory, signals):
        return _train_in(directory, signals, config, environment, None, dashboard, profile, started, cluster)


def resume(
    run_dir: str | Path,
    *,
    max_env_steps: int | None = None,
    workers: int | None = None,
    any_version: bool = False,
    dashboard: str = "auto",
    profile: bool = False,
    cluster: str | None = None,
) -> Summary | None:
    """Resume a run where its last checkpoint left it; the same as `python run_a3c.py resume`.

    In `sync`, and with one worker, what follows is bit for bit what would have followed without the break.

    Args:
        max_env_steps, workers: other than the run's own; in `sync` the workers cannot be others.
        any_version: resume although packages have other versions than those that the run was made with.
        cluster: as in `train`, whatever the run was made on.
    Returns: the summary; None where there was nothing to do.
    Raises CheckpointError where there is nothing to resume or it does not fit, ConfigError as train() does.
    """
    from workers.processes.preflight import describe_environment
    from workers.runs.resume import changed, load, nothing_to_do, stored_config

    typed, path = checked_path("run_dir", run_dir, dashboard)
    if not path.is_dir():
        raise CheckpointError(f"{typed}: no such run directory")
    stored, content = stored_config(path)
    config = changed(stored, max_env_steps, workers)
    if (why := nothing_to_do(path, config)) is not None:
        print(f"nothing to do: the run in {typed} {why}")
        return None
    check_limits(config)
    check_cluster(cluster)
    with _opened(path, typed, resume=True) as (directory, signals):
        started = time.monotonic()
        environment = describe_environment(config, content.get("environment"))
        resumed = load(path, config, environment, content, any_version, functools.partial(print, file=sys.stderr))
        return _train_in(directory, signals, config, environment, resumed, dashboard, profile, started, cluster)


def checked_path(option: str, path: str | Path, dashboard: str) -> tuple[Path, Path]:
    """A directory for files as the user typed it, and as an absolute path; raises ConfigError, of the dashboard too."""
    if dashboard not in ("auto", "on", "off"):
        raise ConfigError(f"dashboard: must be one of auto, on, off, got {dashboard!r}")
    typed = typed_path(option, path)
    absolute = absolute_path(option, typed)
    leave_deleted_folder()
    return typed, absolute


@contextmanager
def _opened(path: Path, typed: Path, resume: bool = False) -> Iterator[tuple[RunDirectory, Signals]]:
    """The open run directory, while the user's signals are collected and the forkserver imports torch."""
    with closing(open_run_directory(path, resume=resume, shown=str(typed))) as directory, Signals() as signals:
        start_forkserver(directory.path / "logs" / "forkserver.log")
        yield directory, signals


def _train_in(
    directory: RunDirectory,
    signals: Signals,
    config: Config,
    environment: EnvironmentSpec | None,
    resumed: Resumed | None,
    dashboard: str,
    profile: bool,
    started: float,
    cluster: str | None,
) -> Summary:
    """Show the run while it trains, and what came of it."""
    from workers.console import run_view
    from workers.runs.program import changed_options

    options = [*changed_options(config), *(["--cluster", cluster] if cluster else [])]
    with run_view(dashboard, options) as view:
        view.update(starting(config, directory.shown, time.monotonic() - started))
        if environment is None:
            from a3c.environments import describe

            environment = describe(config.env, config.max_episode_steps)
        summary = supervise(config, environment, directory, view, signals, started, resumed, cluster)
        view.finish(summary, directory.shown, profile)
    return summary


def supervise(
    config: Config,
    environment: EnvironmentSpec,
    directory: RunDirectory,
    view: View,
    signals: Signals,
    started: float,
    resumed: Resumed | None = None,
    cluster: str | None = None,
) -> Summary:
    """Build shared memory, log and processes of a run, and run it to its end."""
    import numpy as np

    from a3c.evaluation import batch_size
    from shared.memory import Notifier
    from shared.scoreboard import Scoreboard
    from workers import checkpointer, monitor
    from workers.children import START_SECONDS, Children
    from workers.processes.child import Patience
    from workers.runs.evaluations import Evaluations, SharedRun
    from workers.runs.log import RunLog
    from workers.supervisor import SAVE_SECONDS, Supervisor

    # What the processes share.
    scoreboard = Scoreboard(config.workers)
    scoreboard.began = started
    store = build_store(config, environment, scoreboard)
    if resumed is not None:
        from workers.runs.resume import cut_back

        resumed.restore(store, scoreboard)
        resumed = cut_back(directory.path, resumed)  # now that everything is known to fit
    log = RunLog(config, environment, scoreboard, store, directory, view, resumed)
    run = SharedRun(config, environment, store, scoreboard, Evaluations(log.progress), Notifier(), directory.path)

    # The processes: none of them is started here.
    children = Children(config, environment, store, scoreboard, directory.path)
    gate, roster, local = None, None, config.workers
    if cluster is not None:
        from workers.cluster.start import start_gate

        gate, roster = start_gate(cluster, run, children, signals, log)
        local = roster.local
    workers, watching = [children.worker(index) for index in range(local)], None
    if config.evaluation.eval_episodes:
        batch = batch_size(environment, config.evaluation.eval_episodes, config.evaluation.eval_envs)
        patient = children.patience(batch, least=START_SECONDS)
        watching = children.make("monitor", monitor.main, lambda pipe: (run, pipe), scoreboard.monitor, patient)
    slow = Patience(START_SECONDS, SAVE_SECONDS)
    saving = children.make(
        "checkpointer", checkpointer.main, lambda pipe: (run, pipe, view.terminal), scoreboard.checkpointer, slow
    )
    supervisor = Supervisor(run, log, signals, workers, watching, saving, gate, roster)

    signals.check()
    with np.errstate(all="ignore"), closing(supervisor):  # whatever the caller has NumPy raise
        supervisor.start()
        kind, origin = ("started", "") if resumed is None else ("resumed", f"; {resumed.describe()}")
        plural, others = "s" * (config.workers != 1), " and a monitor" if watching else ", no evaluations"
        log.event(kind, f"{config.workers} worker{plural}{others}, seed {config.seed}{origin}")
        for note in (*setting(config, environment), *environment.notes(), *memory_notes(config, environment, store)):
            log.event("setting", note)
        if (line := crowding(config)) is not None:
            log.event("warning", line)
        directory.write_config(config, environment.description())
        summary = supervisor.run()
    disk_failed = directory.failure and not summary.exit_code
    return dataclasses.replace(summary, exit_code=ExitCode.DISK) if disk_failed else summary


def check_cluster(cluster: str | None) -> None:
    """Refuse a cluster where there is no Ray: ConfigError."""
    if cluster is not None:
        from workers.extras import require

        require("cluster", "cluster", ("ray",))


def setting(config: Config, environment: EnvironmentSpec) -> list[str]:
    """Where the options come from, and how a worker steps its environments, where there is something to say."""
    found = [] if config.preset == "none" else [f"preset {config.preset} (--preset none: the defaults)"]
    if config.envs_per_worker > 1:
        way = "as one native batch" if environment.is_batched(config.envs_per_worker) else "one after the other"
        took = 1e3 * environment.pace.step_seconds
        cost = f", {took:.2g} ms a step" if took >= 0.1 and not environment.native else ""
        if environment.pooled is not None:
            way, cost = (
                "as one batch of EnvPool's",
                f", {1e6 * environment.pooled:.0f} us a step; evaluations use Gymnasium's",
            )
        found.append(f"each worker steps {config.envs_per_worker} environments {way}{cost}")
    return found


def memory_notes(config: Config, environment: EnvironmentSpec, store: SharedStore) -> list[str]:
    """How much is shared, and held by each worker, where observations are images; the console has the whole."""
    observation = environment.observation
    if not observation.images:
        return []
    steps = (config.n_steps + 1) * config.envs_per_worker
    rollout = steps * math.prod(observation.shape) * (1 if observation.dtype == "uint8" else 4)
    return [f"{store.nbytes / 2**20:.1f} MiB of shared memory; {rollout / 2**20:.1f} MiB of observations a worker"]


def build_store(
    config: Config, environment: EnvironmentSpec, scoreboard: Scoreboard, optimizer: Any = None
) -> SharedStore:
    """The shared parameters, initialised by the run's seed, the shared optimizer, and the mode's way to push.

    `optimizer` makes another one than the configuration's; ConfigError: they do not fit into memory.
    """
    try:
        store = _build_store(config, environment, scoreboard, optimizer)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):  # torch has no class of its own
            raise
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"hidden_sizes: the network and its copies do not fit into memory: {reason}") from error
    if config.staleness.max_staleness is not None:
        store.max_staleness = config.staleness.max_staleness
    return store


def _build_store(config: Config, environment: EnvironmentSpec, scoreboard: Scoreboard, optimizer: Any) -> SharedStore:
    from a3c.learners import updates_per_rollout
    from a3c.networks import bind, build, flat_zeros, initialize

    model = build(config, environment)
    initialize(model, config.seed)
    vector = flat_zeros(model)
    bind(model, vector)
    stepped = optimizer(len(vector)) if optimizer else build_optimizer(config, model, vector)
    statistics = None if model.normalizer is None else build_statistics(config.workers, model.normalizer)
    if config.mode == "sync" or config.workers == 1:  # a single worker is reproducible too
        from shared.sync_store import SyncStore

        interval = config.evaluation.eval_interval if config.evaluation.eval_episodes else None
        return SyncStore(vector, stepped, scoreboard, interval, statistics, updates_per_rollout(config))
    if config.mode == "locked":
        from shared.locked_store import LockedStore

        try:
            return LockedStore(vector, stepped, scoreboard, statistics)
        except OSError as error:
            raise ConfigError(f"mode: locked needs file locks ({error.strerror}); choose --mode async") from error
    from shared.store import SharedStore

    return SharedStore(vector, stepped, scoreboard, statistics)


def build_statistics(workers: int, normalizer: Normalizer) -> SharedStatistics:
    """The running statistics of a run, whose sums lie where those of its network do."""
    from a3c.normalization import combined, row_size
    from shared.statistics import SharedStatistics

    size, start = normalizer.size, normalizer.statistics.storage_offset()
    place = slice(start, start + normalizer.statistics.numel())
    return SharedStatistics(workers, row_size(size), functools.partial(combined, size=size), place)


def build_optimizer(config: Config, model: ActorCritic, vector: Tensor) -> SharedOptimizer:
    """The shared optimizer of a run, for the parameters of a model, which are bound to `vector`."""
    from shared.optimizers import SharedAdam, SharedRMSProp, SharedSGD

    options, critic, size = config.optimizer, config.critic, len(vector)
    adam = options.adam_beta1, options.adam_beta2, options.epsilon
    built: SharedOptimizer
    if options.optimizer == "rmsprop":
        built = SharedRMSProp(size, options.rmsprop_decay, options.epsilon)
    else:
        built = SharedSGD() if options.optimizer == "sgd" else SharedAdam(size, *adam)
    if critic.critic == "separate":
        from a3c.networks import critic_place
        from shared.split_optimizer import SplitOptimizer

        own = built if options.optimizer == "adam" else SharedAdam(size, *adam)
        rate = (critic.critic_learning_rate or options.learning_rate) / options.learning_rate
        built = SplitOptimizer(built, own, critic_place(model), rate, critic.critic_weight_decay)
    if config.has_slow_copy:
        from shared.split_optimizer import SlowCopy

        interval = 0 if critic.slow_critic is not None else config.loss.target_interval
        built = SlowCopy(built, vector, critic.slow_critic or 1.0, interval)
    return built
