"""One study from its plan to its report."""

import tempfile
import time
from pathlib import Path
from typing import Any

from workers import exit_codes
from workers.comparison.progress import ArmProgress, StudyStatus
from workers.comparison.results import Comparison, LostUpdates, Run
from workers.comparison.study import Arm, Study, plan
from workers.comparison.study_directory import StudyDirectory, read_run
from workers.extras import installing
from workers.launch import start_forkserver
from workers.limits import check_descriptors
from workers.run_directory import RunDirectory
from workers.session import check_dashboard, console_for, describe_environment, process_started
from workers.signals import Signals


def compare(
    *,
    seeds: int = 10,
    tuned: bool = False,
    study_dir: str | Path | None = None,
    dashboard: str = "auto",
    **options: Any,
) -> Comparison | None:
    """Make every run of a study and report; the same as `python run_a3c.py compare`.

    Args:
        options: by name, one value or a list of several: `compare(mode=["async", "sync"], workers=4, seeds=10)`.
    Returns: the comparison; None where the study was stopped before its end.
    Raises:
        ConfigError: an option, the environment or the study's directory cannot be used; nothing was started.
    """
    values = {name: value if isinstance(value, list) else [value] for name, value in options.items()}
    return run(plan(values, seeds, tuned), study_dir, dashboard, "workers.compare(...)")[0]


def run(study: Study, study_dir: str | Path | None, dashboard: str, command: str) -> tuple[Comparison | None, int]:
    """Make every run of a study that has not been made yet, then report.

    Returns: the comparison, None where the study was stopped before its end; and the exit code.
    Raises:
        ConfigError: an option, the environment or the study's directory cannot be used; nothing was started.
    """
    check_dashboard(dashboard)
    for arm in study.arms:
        check_descriptors(arm.config)
    environments = {arm.name: describe_environment(arm.config) for arm in study.arms}
    directory = StudyDirectory(Path(study_dir) if study_dir is not None else study.default_path(), study, command)
    try:
        start_forkserver()
        return _Session(study, directory, environments, dashboard).run()
    finally:
        directory.close()


class _Session:
    """The state of one study while it goes on."""

    def __init__(self, study: Study, directory: StudyDirectory, environments: dict[str, Any], dashboard: str):
        from workers.comparison.study_dashboard import StudyView

        self._study, self._directory, self._environments = study, directory, environments
        found = {(arm.name, seed): directory.finished_run(arm, seed) for arm, seed in study.schedule()}
        self._runs: dict[tuple[str, int], Run] = {key: run for key, run in found.items() if run is not None}
        self._view = StudyView(*console_for(dashboard), self._status())

    def run(self) -> tuple[Comparison | None, int]:
        """Make the missing runs, measure what is lost, report."""
        try:
            with self._view:
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
                supervisor = Supervisor(arm.run(seed), environment, directory, self._view, signals, time.time())
                signals.check()
                supervisor.run()
        finally:
            directory.close()
        if supervisor.exit_code not in (exit_codes.FINISHED, exit_codes.NUMERICS):
            self._say_stopped("interrupted" if supervisor.exit_code > 128 else f"the run in {path} failed")
            return supervisor.exit_code
        # A run whose numbers diverged has an outcome too: it never got there.
        run = read_run(path, arm.name, seed, str(path.relative_to(self._directory.path)))
        self._runs[arm.name, seed] = run
        self._view.finished(run)
        return exit_codes.FINISHED

    def _lost_updates(self) -> dict[str, LostUpdates]:
        """Of each arm whose workers push without waiting for each other."""
        from workers.comparison.ledger import measure_lost_updates

        lost = self._directory.lost_updates()
        for arm in self._study.arms:
            if arm.config.workers == 1 or arm.name in lost:
                continue
            self._view.say(f"{arm.name}: counting what pushes lose")
            try:
                with tempfile.TemporaryDirectory(dir=self._directory.path) as folder:
                    lost[arm.name] = measure_lost_updates(arm.config, self._environments[arm.name], Path(folder))
            except RuntimeError as error:  # a study whose runs are all there ends with its report
                self._view.say(f"{arm.name}: not counted: {error}")
            self._directory.write_lost_updates(lost)
        return lost

    def _report(self, lost: dict[str, LostUpdates]) -> Comparison:
        """Everything that a finished study leaves behind, and the tables on the console."""
        from workers.comparison.findings import findings

        comparison = self._comparison(lost)
        words = findings(comparison)
        self._directory.write_results(comparison, words)
        files = ["comparison.json", "runs.csv", *_write_report(comparison, self._directory.path)]
        where = [f"{self._directory.path}/{name}" for name in files]
        self._view.show_comparison(comparison, words, where)
        return comparison

    def _comparison(self, lost: dict[str, LostUpdates]) -> Comparison:
        from workers.comparison.analysis import arm_result, contrasts

        study, facts = self._study, self._directory.facts
        by_arm = {arm.name: [self._runs[arm.name, seed] for seed in study.seeds] for arm in study.arms}
        runs = tuple(run for arm_runs in by_arm.values() for run in arm_runs)
        return Comparison(
            command=facts["command"],
            env_id=study.arms[0].config.env,
            target_return=self._target(),
            max_env_steps=max(arm.config.max_env_steps for arm in study.arms),
            factors=study.factors,
            options=study.shared_options(),
            tuned=study.tuned,
            seeds=study.seeds,
            machine={**facts["machine"], **facts["versions"], "git_commit": facts["git_commit"]},
            planned_runs=len(runs),
            runs=runs,
            arms=tuple(arm_result(arm.name, arm.values, by_arm[arm.name], lost.get(arm.name)) for arm in study.arms),
            contrasts=contrasts([arm.name for arm in study.arms], runs),
        )

    def _target(self) -> float | None:
        targets = {self._environments[arm.name].target(arm.config.evaluation.target_return) for arm in self._study.arms}
        return targets.pop() if len(targets) == 1 else None

    def _status(self) -> StudyStatus:
        study = self._study
        done = {arm.name: tuple(self._runs[arm.name, seed] for seed in study.seeds if (arm.name, seed) in self._runs)
                for arm in study.arms}  # fmt: skip
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
            elapsed_seconds=time.time() - process_started(),
            remaining_seconds=None,
        )

    def _say_stopped(self, why: str) -> None:
        where = f"{len(self._runs)} of {len(self._study.schedule())} runs are kept in {self._directory.path}"
        self._view.stop()
        print(f"\n{why}; {where}; the same command goes on from here")


def _write_report(comparison: Comparison, path: Path) -> list[str]:
    """Figures and report.html where matplotlib and scipy are installed; the names of the files."""
    try:
        from workers.comparison.figures import log_rank, save_figures
    except ImportError:
        return [f"(for figures and report.html: {installing('report')})"]
    from workers.comparison.page import render_page

    figures = save_figures(comparison, path / "figures")
    (path / "report.html").write_text(render_page(comparison, figures, log_rank(comparison)))
    return ["report.html", f"figures/ ({len(figures)} files)"]
