"""One study from its plan to its report."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from a3c.files import absolute_path, typed_path
from workers import exit_codes
from workers.comparison.progress import ArmProgress, StudyStatus
from workers.comparison.results import Comparison, LostUpdates, Run
from workers.comparison.stored_runs import UnreadableRunError, is_outcome, read_run
from workers.comparison.study import Arm, Study, plan
from workers.comparison.study_directory import StudyDirectory
from workers.comparison.versions import check_one_version, machine_of, versions_of
from workers.console.drawing import clean
from workers.extras import installing
from workers.processes.limits import check_descriptors, leave_deleted_folder
from workers.processes.signals import Signals
from workers.processes.start import start_forkserver
from workers.runs.directory import RunDirectory
from workers.training import check_dashboard, console_for, describe_environment, process_started


def compare(
    *,
    seeds: int = 10,
    tuned: bool = False,
    study_dir: str | Path | None = None,
    any_version: bool = False,
    dashboard: str = "auto",
    **options: Any,
) -> Comparison | None:
    """Make every run of a study and report; the same as `python run_a3c.py compare`.

    Args:
        any_version: keep runs that another version of the program has made; the report tells which.
        options: by name, one value or a list of several: `compare(mode=["async", "sync"], workers=4, seeds=10)`.
    Returns: the comparison; None where the study was stopped before its end.
    Raises:
        ConfigError: an option, the environment or the study's directory cannot be used; nothing was started.
    """
    given = {"seeds": seeds, "tuned": tuned, "study_dir": study_dir and str(study_dir), "any_version": any_version}
    call = ", ".join(f"{name}={value!r}" for name, value in {**options, **given}.items() if value not in (None, False))
    values = {name: value if isinstance(value, list) else [value] for name, value in options.items()}
    return run(plan(values, seeds, tuned), study_dir, dashboard, f"workers.compare({call})", any_version)[0]


def run(
    study: Study, study_dir: str | Path | None, dashboard: str, command: str, any_version: bool = False
) -> tuple[Comparison | None, int]:
    """Make every run of a study that has not been made yet, then report.

    Args:
        command: what was typed, which continues the study where it was stopped.
        any_version: keep runs that another version of the program has made.
    Returns: the comparison, None where the study was stopped before its end; and the exit code.
    Raises:
        ConfigError: an option, the environment or the study's directory cannot be used; nothing was started.
    """
    check_dashboard(dashboard)
    typed = study.default_path() if study_dir is None else typed_path("study_dir", study_dir)
    place = absolute_path("study_dir", typed)
    leave_deleted_folder()
    for arm in study.arms:
        check_descriptors(arm.config)
    environments = {arm.name: describe_environment(arm.config) for arm in study.arms}
    directory = StudyDirectory(place, study, command)
    try:
        found, unreadable = directory.finished_runs()
        missing = len(found) < len(study.schedule())
        if not any_version:
            check_one_version(list(found.values()), directory.made_with, missing, directory.path)
        start_forkserver(directory.path / "forkserver.log")
        return _Session(study, directory, environments, dashboard, found).run(unreadable)
    finally:
        directory.close()


def comparison_of(
    study: Study, found: dict[tuple[str, int], Run], lost: dict[str, LostUpdates], target: float | None, command: str
) -> Comparison:
    """What a study whose runs are all there has found.

    Args:
        found: the runs, by arm and seed.
        lost: what was measured of lost updates, by arm.
        target: the return that counts as solved, where all arms have the same.
    """
    from workers.comparison.analysis import arm_result, contrasts

    by_arm = {arm.name: [found[arm.name, seed] for seed in study.seeds] for arm in study.arms}
    runs = tuple(run for arm_runs in by_arm.values() for run in arm_runs)
    versions = versions_of(runs)
    return Comparison(
        command=command,
        env_id=study.arms[0].config.env,
        target_return=target,
        max_env_steps=max(arm.config.max_env_steps for arm in study.arms),
        factors=study.factors,
        options=study.shared_options(),
        tuned=study.tuned,
        seeds=study.seeds,
        machine=machine_of(versions),
        planned_runs=len(runs),
        runs=runs,
        arms=tuple(arm_result(arm.name, arm.values, by_arm[arm.name], lost.get(arm.name)) for arm in study.arms),
        contrasts=contrasts([arm.name for arm in study.arms], runs),
        versions=versions,
    )


class _Session:
    """The state of one study while it goes on."""

    def __init__(
        self,
        study: Study,
        directory: StudyDirectory,
        environments: dict[str, Any],
        dashboard: str,
        runs: dict[tuple[str, int], Run],
    ):
        from workers.comparison.study_dashboard import StudyView

        self._study, self._directory, self._environments = study, directory, environments
        self._runs = runs  # with an outcome, by arm and seed
        self._view = StudyView(*console_for(dashboard), self._status())

    def run(self, notes: Sequence[str] = ()) -> tuple[Comparison | None, int]:
        """Make the missing runs, measure what is lost, report.

        Args:
            notes: lines to say first.
        """
        try:
            with self._view:
                for note in notes:
                    self._view.note(note)
                for arm, seed in self._study.schedule():
                    if (arm.name, seed) not in self._runs and (code := self._make(arm, seed)):
                        return None, code
                lost = self._lost_updates()
        except KeyboardInterrupt:  # between two runs; within one it is the supervisor's to deal with
            self._say_stopped("interrupted")
            return None, exit_codes.INTERRUPTED
        return self._report(lost), exit_codes.FINISHED

    def _make(self, arm: Arm, seed: int) -> int:
        """One run; its exit code where the study must not go on."""
        self._view.begin(arm.name, seed)
        path = self._directory.clear(arm, seed)
        directory = RunDirectory(path)
        try:
            with Signals() as signals:
                from workers.supervisor import Supervisor  # imports torch

                environment = self._environments[arm.name]
                supervisor = Supervisor(arm.run(seed), environment, directory, self._view, signals, time.monotonic())
                signals.check()
                summary = supervisor.run()
                stopped_by = signals.seen[0] if signals.seen else None
        finally:
            directory.close()
        code = supervisor.exit_code
        if is_outcome(summary) and code in (exit_codes.FINISHED, exit_codes.NUMERICS):
            code = self._keep(arm, seed, path)
        if stopped_by is not None:  # a run that was solved meanwhile counts, and is the last all the same
            self._say_stopped("interrupted")
            return 128 + stopped_by
        if code:
            self._say_stopped(f"{arm.name} seed {seed} failed: {summary.reason}", path / "logs")
        return code

    def _keep(self, arm: Arm, seed: int, path: Path) -> int:
        """Count a run that has an outcome; the exit code where its files cannot be read."""
        try:
            run = read_run(path, arm.name, seed, str(path.relative_to(self._directory.path)))
        except UnreadableRunError as error:
            self._view.note(str(error))
            return exit_codes.DISK
        self._runs[arm.name, seed] = run
        self._view.finished(run)
        return exit_codes.FINISHED

    def _lost_updates(self) -> dict[str, LostUpdates]:
        """Of each arm whose workers push without waiting for each other."""
        from workers.comparison.ledger import measure_lost_updates

        made_with = self._directory.made_with
        versions = [version.facts for version in versions_of(self._runs.values())]
        lost = self._directory.lost_updates(versions)
        missing = [arm for arm in self._study.arms if arm.config.workers > 1 and arm.name not in lost]
        if made_with not in versions:  # runs of another version, all of them: not what this one loses
            return lost
        for arm in missing:
            self._view.say(f"{arm.name}: counting what pushes lose")
            try:
                with tempfile.TemporaryDirectory(dir=self._directory.path) as folder:
                    lost[arm.name] = measure_lost_updates(arm.config, self._environments[arm.name], Path(folder))
            except RuntimeError as error:  # a study whose runs are all there ends with its report
                self._view.say(f"{arm.name}: not counted: {error}")
            self._directory.write_lost_updates(lost, made_with)
        return lost

    def _report(self, lost: dict[str, LostUpdates]) -> Comparison:
        """Everything that a finished study leaves behind, and the tables on the console."""
        from workers.comparison.findings import findings

        comparison = comparison_of(self._study, self._runs, lost, self._target(), self._directory.facts["command"])
        words = findings(comparison)
        self._directory.write_results(comparison, words)
        files = ["comparison.json", "runs.csv", *_write_report(comparison, self._directory.path)]
        where = [f"{self._directory.path}/{name}" for name in files]
        self._view.show_comparison(comparison, words, where)
        return comparison

    def _target(self) -> float | None:
        if any(arm.config.evaluation.eval_episodes == 0 for arm in self._study.arms):
            return None  # nobody knows whether a run of that arm has reached it
        targets = {self._environments[arm.name].target(arm.config.evaluation.target_return) for arm in self._study.arms}
        return targets.pop() if len(targets) == 1 else None

    def _status(self) -> StudyStatus:
        study = self._study
        done = {
            arm.name: tuple(self._runs[arm.name, seed] for seed in study.seeds if (arm.name, seed) in self._runs)
            for arm in study.arms
        }
        arms = tuple(ArmProgress(arm.name, len(study.seeds), done[arm.name]) for arm in study.arms)
        return StudyStatus(
            env_id=study.arms[0].config.env,
            study_dir=str(self._directory.path),
            target_return=self._target(),
            max_env_steps=max(arm.config.max_env_steps for arm in study.arms),
            arms=arms,
            current_arm=None,
            current_seed=None,
            current=None,
            elapsed_seconds=time.monotonic() - process_started(),
            remaining_seconds=None,
        )

    def _say_stopped(self, why: str, logs: Path | None = None) -> None:
        """Why the study ends before its end, what there is of it, and how to continue it."""
        self._view.stop()
        kept = f"{len(self._runs)} of {len(self._study.schedule())} runs, in {self._directory.path}"
        facts = {"logs": str(logs) if logs else "", "kept": kept, "resume": self._directory.facts["command"]}
        print(f"\n{clean(why)}", *(f"  {name:<8}{clean(told)}" for name, told in facts.items() if told), sep="\n")


def _write_report(comparison: Comparison, path: Path) -> list[str]:
    """Figures and report.html where their packages are installed; the names of the files."""
    try:
        from workers.comparison.figures import log_rank, save_figures
        from workers.comparison.page import render_page
    except ImportError:
        return [f"(for figures and report.html: {installing('report')})"]
    figures = save_figures(comparison, path / "figures")
    (path / "report.html").write_text(render_page(comparison, figures, log_rank(comparison)), encoding="utf-8")
    return ["report.html", f"figures/ ({len(figures)} files)"]
