"""One training run from its options to its summary."""

import os
import sys
import time
from pathlib import Path
from typing import Any

from a3c.config import CheckpointError, Config, ConfigError
from a3c.files import absolute_path, typed_path
from workers import exit_codes
from workers.processes.limits import check_descriptors, check_processes, leave_deleted_folder, process_refusal
from workers.processes.output import environment_output, no_input
from workers.processes.preflight import check_environment, check_process
from workers.processes.signals import Signals
from workers.processes.start import start_forkserver
from workers.runs.directory import RunDirectory, new_run_dir, open_run_directory
from workers.runs.records import Summary, starting
from workers.runs.resume import changed, nothing_to_do, stored_config

DASHBOARDS = ("auto", "on", "off")


def train(
    config: Config | None = None,
    *,
    run_dir: str | Path | None = None,
    dashboard: str = "auto",
    profile: bool = False,
    **options: Any,
) -> Summary:
    """Train until solved or the budget is spent; the same as `python run_a3c.py train`.

    Args:
        config: the options as one object; or give them by name, `train(env="CartPole-v1", workers=4, gamma=0.98)`.
        run_dir: where the run's files go; default: a new directory under runs/.
        dashboard: "auto" draws live where the output is a terminal, else prints lines; "on" and "off" force it.
        profile: print at the end where each worker's time went, which the summary tells in any case.
    Raises:
        ConfigError: an option, the environment or the run directory cannot be used; nothing was started.
    """
    if config is not None and options:
        raise TypeError("give either a config or options by name")
    return run(config or Config.from_options(options), run_dir, dashboard, profile, started=time.monotonic())[0]


def run(
    config: Config, run_dir: str | Path | None, dashboard: str, profile: bool = False, started: float | None = None
) -> tuple[Summary, int]:
    """Train; return the summary and the exit code.

    Args:
        profile: print at the end where each worker's time went.
        started: time.monotonic() when the user asked for the run, from which its wall-clock seconds count; default:
            when this process began.
    """
    check_process()
    check_dashboard(dashboard)
    typed = Path("runs") if run_dir is None else typed_path("run_dir", run_dir)
    path = absolute_path("run_dir", typed)
    leave_deleted_folder()
    # Everything that can be wrong is checked before a process starts. The default environment is known to be right, so
    # that the usual run need not wait for gymnasium's import before the forkserver begins with its own.
    check_descriptors(config)
    check_processes(config)
    environment = None if config.env == Config().env else describe_environment(config)
    if run_dir is None:
        path = new_run_dir(path, config)
        typed = typed / path.name
    directory = open_run_directory(path, shown=str(typed))
    try:
        with Signals() as signals:
            _start_forkserver(config, directory)
            return _supervise(config, environment, directory, dashboard, profile, signals, started)
    finally:
        directory.close()


def resume(
    run_dir: str | Path,
    *,
    max_env_steps: int | None = None,
    workers: int | None = None,
    any_version: bool = False,
    dashboard: str = "auto",
    profile: bool = False,
) -> Summary | None:
    """Go on with a run where its last checkpoint left it; the same as `python run_a3c.py resume`.

    In `sync`, and with one worker, what follows is bit for bit what would have followed without the break.

    Args:
        max_env_steps: another budget; default: the run's own.
        workers: another number of workers; not in `sync`.
        any_version: go on although packages have other versions than those that the run was made with.
    Returns: the summary; None where there was nothing to do.
    Raises:
        CheckpointError: there is nothing to go on from, or it does not fit; files are left as they are.
        ConfigError: the directory or an option cannot be used.
    """
    return run_resumed(run_dir, max_env_steps, workers, any_version, dashboard, profile)[0]


def run_resumed(
    run_dir: str | Path,
    max_env_steps: int | None,
    workers: int | None,
    any_version: bool,
    dashboard: str,
    profile: bool = False,
) -> tuple[Summary | None, int]:
    """As `resume`; return the summary and the exit code."""
    check_process()
    check_dashboard(dashboard)
    typed = typed_path("run_dir", run_dir)
    path = absolute_path("run_dir", typed)
    leave_deleted_folder()
    if not path.is_dir():
        raise CheckpointError(f"{typed}: no such run directory")
    stored, content = stored_config(path)
    config = changed(stored, max_env_steps, workers)
    if (why := nothing_to_do(path, config)) is not None:
        print(f"nothing to do: the run in {typed} {why}")
        return None, exit_codes.FINISHED
    check_descriptors(config)
    check_processes(config)
    directory = open_run_directory(path, resume=True, shown=str(typed))
    try:
        with Signals() as signals:
            _start_forkserver(config, directory)
            from workers.runs.resume import load  # imports torch

            environment = describe_environment(config, content.get("environment"))
            resumed = load(path, config, environment, content, any_version, _say)
            return _supervise(config, environment, directory, dashboard, profile, signals, process_started(), resumed)
    finally:
        directory.close()


def _start_forkserver(config: Config, directory: RunDirectory) -> None:
    try:
        start_forkserver(directory.path / "logs" / "forkserver.log")
    except OSError as error:
        raise process_refusal(config, error) or error from error


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def check_dashboard(dashboard: str) -> None:
    """Whether it is one of those there are; raises ConfigError."""
    if dashboard not in DASHBOARDS:
        raise ConfigError(f"dashboard: must be one of {', '.join(DASHBOARDS)}, got {dashboard!r}")


def _supervise(
    config: Config,
    environment: Any,
    directory: RunDirectory,
    dashboard: str,
    profile: bool,
    signals: Signals,
    started: float | None,
    resumed: Any = None,
) -> tuple[Summary, int]:
    """The imports from here on run beside the forkserver's own."""
    from workers.console import run_view
    from workers.runs.program import changed_options

    started = process_started() if started is None else started
    with run_view(dashboard, changed_options(config)) as view:
        view.update(starting(config, directory.shown, time.monotonic() - started))
        import numpy as np

        from workers.supervisor import Supervisor  # imports torch

        environment = environment or describe_environment(config)
        supervisor = Supervisor(config, environment, directory, view, signals, started, resumed)
        signals.check()
        with np.errstate(all="ignore"):  # whatever the caller has NumPy raise
            summary = supervisor.run()
        view.finish(summary, directory.shown, profile)
    return summary, supervisor.exit_code


def process_started() -> float:
    """When the command was typed, a time.monotonic(): the interpreter's own start belongs to the waiting."""
    if sys.platform == "linux":  # in clock ticks since boot; psutil adds them to a boot time rounded to seconds
        try:
            ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        except OSError:  # no /proc
            return time.monotonic() - time.process_time()
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        return time.monotonic() - age
    import psutil

    return time.monotonic() - max(time.time() - float(psutil.Process().create_time()), 0.0)


def describe_environment(config: Config, facts: Any = None) -> Any:
    """The run's environment, known to be one that can be trained on, in other processes.

    Args:
        facts: of config.json where a run is resumed, for an id that was registered by a program of the user's.
    Raises:
        ConfigError: it is unknown, not supported, has no time limit, cannot be handed to other processes, or fails when
            it is made, reset or stepped.
    """
    from a3c.environments import describe  # imports gymnasium
    from a3c.lookup import find

    kept = facts.get("env_spec") if isinstance(facts, dict) else None
    if config.env == Config().env:
        environment = describe(config.env, config.max_episode_steps)
    else:
        with environment_output(), no_input():
            check_environment(config.env, find(config.env, kept))
            environment = describe(config.env, config.max_episode_steps, kept)
    if environment.max_episode_steps is None:
        raise ConfigError(
            f"env: '{config.env}' has no time limit, so that a greedy episode may never end; "
            "give one with --max-episode-steps"
        )
    return environment
