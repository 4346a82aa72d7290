"""One training run from its options to its summary. This page builds all its parts, top-down.

train() or resume() -> checks -> run directory -> forkserver -> supervise() -> Supervisor.run()

torch is imported in `supervise`, beside the forkserver's own import of it: that takes most of a short run's time.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a3c.config import CheckpointError, Config, ConfigError, OptimizerConfig
from a3c.files import absolute_path, typed_path
from workers import exit_codes
from workers.processes.limits import check_limits, crowding, leave_deleted_folder, process_refusal
from workers.processes.signals import Signals
from workers.processes.start import start_forkserver
from workers.runs.directory import RunDirectory, new_run_dir, open_run_directory
from workers.runs.records import Summary, starting

if TYPE_CHECKING:
    from a3c.environments import EnvironmentSpec
    from shared.optimizers import SharedOptimizer
    from shared.scoreboard import Scoreboard
    from shared.store import SharedStore
    from workers.runs.log import View
    from workers.runs.resume import Resumed

DASHBOARDS = ("auto", "on", "off")
START_SECONDS = 60.0  # for imports, and for environments to be made and reset
PATIENCE = 5  # times what an environment has shown to take is not too long


def train(
    config: Config | None = None,
    *,
    run_dir: str | Path | None = None,
    dashboard: str = "auto",
    profile: bool = False,
    started: float | None = None,
    **options: Any,
) -> Summary:
    """Train until solved or the budget is spent; the same as `python run_a3c.py train`.

    Args:
        config: the options as one object; or give them by name, `train(env="CartPole-v1", workers=4, gamma=0.98)`.
        run_dir: where the run's files go; default: a new directory under runs/.
        dashboard: "auto" draws live where the output is a terminal, else prints lines; "on" and "off" force it.
        profile: print at the end where each worker's time went, which the summary holds in any case.
        started: a time.monotonic() from which the run's wall-clock seconds count; default: now.
    Raises:
        ConfigError: an option, the environment or the run directory cannot be used; nothing was started.
    """
    if config is not None and options:
        raise TypeError("give either a config or options by name")
    started = time.monotonic() if started is None else started
    config = config or Config.from_options(options)
    typed, path = _checked(dashboard, "runs" if run_dir is None else run_dir)
    check_limits(config)
    # The default environment is known to be right: the usual run does not wait for gymnasium before the forkserver.
    environment = None if config.env == Config().env else _described(config)
    if run_dir is None:
        path = new_run_dir(path, config)
        typed = typed / path.name
    directory = open_run_directory(path, shown=str(typed))
    return _run_in(directory, config, lambda: (environment, None), dashboard, profile, started)


def resume(
    run_dir: str | Path,
    *,
    max_env_steps: int | None = None,
    workers: int | None = None,
    any_version: bool = False,
    dashboard: str = "auto",
    profile: bool = False,
) -> Summary | None:
    """Resume a run where its last checkpoint left it; the same as `python run_a3c.py resume`.

    In `sync`, and with one worker, what follows is bit for bit what would have followed without the break.

    Args:
        max_env_steps, workers: other than the run's own; in `sync` the workers cannot be others.
        any_version: resume although packages have other versions than those that the run was made with.
    Returns: the summary; None where there was nothing to do.
    Raises:
        CheckpointError: there is nothing to resume, or it does not fit; files are left as they are.
        ConfigError: the directory or an option cannot be used.
    """
    from workers.runs.resume import changed, load, nothing_to_do, stored_config

    typed, path = _checked(dashboard, run_dir)
    if not path.is_dir():
        raise CheckpointError(f"{typed}: no such run directory")
    stored, content = stored_config(path)
    config = changed(stored, max_env_steps, workers)
    if (why := nothing_to_do(path, config)) is not None:
        print(f"nothing to do: the run in {typed} {why}")
        return None
    check_limits(config)

    def load_checkpoint() -> tuple[EnvironmentSpec, Resumed]:
        environment = _described(config, content.get("environment"))
        warn = functools.partial(print, file=sys.stderr)
        return environment, load(path, config, environment, content, any_version, warn)

    directory = open_run_directory(path, resume=True, shown=str(typed))
    return _run_in(directory, config, load_checkpoint, dashboard, profile, time.monotonic())


def _checked(dashboard: str, path: str | Path) -> tuple[Path, Path]:
    """A run directory as the user typed it, and as an absolute path; raises ConfigError."""
    check_dashboard(dashboard)
    typed = typed_path("run_dir", path)
    absolute = absolute_path("run_dir", typed)
    leave_deleted_folder()
    return typed, absolute


def _described(config: Config, stored: Any = None) -> EnvironmentSpec:
    from workers.processes.preflight import describe_environment

    return describe_environment(config, stored)


def _run_in(
    directory: RunDirectory,
    config: Config,
    load: Callable[[], tuple[EnvironmentSpec | None, Resumed | None]],
    dashboard: str,
    profile: bool,
    started: float,
) -> Summary:
    """Train in an open run directory, which is closed at the end."""
    try:
        with Signals() as signals:
            try:
                start_forkserver(directory.path / "logs" / "forkserver.log")
            except OSError as error:
                raise process_refusal(config, error) or error from error
            environment, resumed = load()
            from workers.console import run_view
            from workers.runs.program import changed_options

            with run_view(dashboard, changed_options(config)) as view:
                view.update(starting(config, directory.shown, time.monotonic() - started))
                if environment is None:
                    from a3c.environments import describe

                    environment = describe(config.env, config.max_episode_steps)
                summary = supervise(config, environment, directory, view, signals, started, resumed)
                view.finish(summary, directory.shown, profile)
            return summary
    finally:
        directory.close()


def supervise(
    config: Config,
    environment: EnvironmentSpec,
    directory: RunDirectory,
    view: View,
    signals: Signals,
    started: float,
    resumed: Resumed | None = None,
) -> Summary:
    """Build shared memory, log and processes of a run, and run it to its end."""
    import numpy as np

    from a3c.evaluation import batch_size
    from shared.memory import Notifier
    from shared.scoreboard import Scoreboard
    from workers import actor_learner, checkpointer, monitor
    from workers.processes.child import Child, Patience
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
    pace, options = environment.pace, config.evaluation

    def patience(environments: int, latency: float = 0.0, least: float = 0.0) -> Patience:
        step = PATIENCE * max(pace.make_seconds, pace.reset_seconds, environments * (pace.step_seconds + latency))
        return Patience(START_SECONDS + step, max(config.supervision.heartbeat_timeout, least, step))

    def child(name: str, target: Any, arguments: Any, index: int, patience: Patience, **more: Any) -> Child:
        pulse, path = functools.partial(scoreboard.beats, index), directory.path / "logs" / f"{name}.log"
        return Child(name, target, arguments, pulse, patience, path, needs_main=environment.needs_main, **more)

    def worker(index: int) -> Child:
        return child(
            f"worker-{index}",
            actor_learner.main,
            lambda _: (index, scoreboard.incarnation(index), config, environment, store, scoreboard, directory.path),
            index,
            patience(config.envs_per_worker, config.env_latency_ms / 1000),
            computing=functools.partial(scoreboard.is_learning, index),
            early=config.envs_per_worker,
        )

    workers, watching = [worker(index) for index in range(config.workers)], None
    if options.eval_episodes:
        patient = patience(batch_size(environment, options.eval_episodes, options.eval_envs), least=START_SECONDS)
        watching = child("monitor", monitor.main, lambda messages: (run, messages), scoreboard.monitor, patient)
    saving = child(
        "checkpointer",
        checkpointer.main,
        lambda messages: (run, messages, view.terminal),
        scoreboard.checkpointer,
        Patience(START_SECONDS, SAVE_SECONDS),
    )
    supervisor = Supervisor(run, log, signals, workers, watching, saving)

    def announce() -> None:
        kind, origin = ("started", "") if resumed is None else ("resumed", f"; {resumed.describe()}")
        plural, others = "s" * (config.workers != 1), " and a monitor" if watching else ", no evaluations"
        log.event(kind, f"{config.workers} worker{plural}{others}, seed {config.seed}{origin}")
        if (line := crowding(config)) is not None:
            log.event("warning", line)
        directory.write_config(config, environment.description())

    signals.check()
    with np.errstate(all="ignore"):  # whatever the caller has NumPy raise
        summary = supervisor.run(announce)
    if directory.failure and not summary.exit_code:
        summary = dataclasses.replace(summary, exit_code=exit_codes.DISK)
    return summary


def build_store(
    config: Config, environment: EnvironmentSpec, scoreboard: Scoreboard, optimizer: Any = None
) -> SharedStore:
    """The shared parameters, initialised by the run's seed, the shared optimizer, and the mode's way to push.

    Args:
        optimizer: another one than that of the configuration, called with the number of parameters.
    Raises:
        ConfigError: they do not fit into memory, or the mode needs locks that the system has not.
    """
    from a3c.networks import bind, build, flat_zeros, initialize
    from shared.store import SharedStore

    try:
        model = build(config, environment)
        initialize(model, config.seed)
        vector = flat_zeros(model)
        bind(model, vector)
        stepped = optimizer(len(vector)) if optimizer else build_optimizer(config.optimizer, len(vector))
        if config.mode == "sync" or config.workers == 1:  # a single worker is reproducible too
            from shared.sync_store import SyncStore

            interval = config.evaluation.eval_interval if config.evaluation.eval_episodes else None
            return SyncStore(vector, stepped, scoreboard, interval)
        if config.mode == "locked":
            from shared.locked_store import LockedStore

            try:
                return LockedStore(vector, stepped, scoreboard)
            except OSError as error:
                raise ConfigError(f"mode: locked needs file locks ({error.strerror}); choose --mode async") from error
        return SharedStore(vector, stepped, scoreboard)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):  # torch has no class of its own
            raise
        reason = str(error).splitlines()[0] if str(error) else "no more can be had"
        raise ConfigError(f"hidden_sizes: the network and its copies do not fit into memory: {reason}") from error


def build_optimizer(options: OptimizerConfig, size: int) -> SharedOptimizer:
    """The shared optimizer of a run for `size` parameters."""
    from shared.optimizers import SharedAdam, SharedRMSProp

    if options.optimizer == "rmsprop":
        return SharedRMSProp(size, options.rmsprop_decay, options.epsilon)
    return SharedAdam(size, options.adam_beta1, options.adam_beta2, options.epsilon)


# -- the console ------------------------------------------------------------------------------------------------------


def check_dashboard(dashboard: str) -> None:
    """Check that it is one of those there are; raises ConfigError."""
    if dashboard not in DASHBOARDS:
        raise ConfigError(f"dashboard: must be one of {', '.join(DASHBOARDS)}, got {dashboard!r}")


def process_started() -> float:
    """When the command was typed, a time.monotonic(): the interpreter's own start belongs to the waiting."""
    try:  # in clock ticks since boot; psutil adds them to a boot time rounded to seconds
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        return time.monotonic() - age
    except (OSError, AttributeError):  # another system, or no /proc
        return time.monotonic() - time.process_time()
