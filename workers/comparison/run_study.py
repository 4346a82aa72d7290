"""One study from its plan to its report."""

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workers import ExitCode
from workers.comparison.analysis import arm_result, contrasts
from workers.comparison.findings import findings
from workers.comparison.results import Comparison, LostUpdates, Run
from workers.comparison.stored_runs import UnreadableRunError, check_one_version, is_outcome, machine_of, versions_of
from workers.comparison.study import Arm, Study, StudyDirectory, open_study_directory, plan
from workers.comparison.study_view import StudyStatus, StudyView
from workers.comparison.tables import render_comparison
from workers.console.drawing import Frame
from workers.console.screen import console_for
from workers.console.text import clean
from workers.extras import install_command
from workers.processes.preflight import describe_environment
from workers.processes.signals import Signals
from workers.processes.start import check_limits, process_started, start_forkserver
from workers.runs.directory import open_run_directory
from workers.training import check_cluster, checked_path, supervise


def compare(
    *,
    seeds: int = 10,
    tuned: bool = False,
    study_dir: str | Path | None = None,
    any_version: bool = False,
    dashboard: str = "auto",
    cluster: str | None = None,
    **options: Any,
) -> Comparison | None:
    """Make every run of a study and report; the same as `python run_a3c.py compare`.

    Args:
        any_version: keep runs that another version of the program has made; the report lists which.
        cluster: as in `train`.
        options: by name, one value or a list of several: `compare(mode=["async", "sync"], workers=4, seeds=10)`.
    Returns: the comparison; None where the study was stopped before its end.
    Raises ConfigError where an option, the environment or the study's directory cannot be used; nothing was started.
    """
    given = {"seeds": seeds, "tuned": tuned, "study_dir": study_dir and str(study_dir), "any_version": any_version}
    given["cluster"] = cluster
    call = ", ".join(f"{name}={value!r}" for name, value in {**options, **given}.items() if value not in (None, False))
    values = {name: value if isinstance(value, list) else [value] for name, value in options.items()}
    planned, call = plan(values, seeds, tuned), f"workers.compare({call})"
    return run(planned, study_dir, dashboard, call, any_version, cluster=cluster)[0]


def run(
    study: Study,
    study_dir: str | Path | None,
    dashboard: str,
    command: str,
    any_version: bool = False,
    environments: Mapping[str, Any] | None = None,
    cluster: str | None = None,
) -> tuple[Comparison | None, int]:
    """As `compare`, of a planned study that `command` resumes; returns the comparison and the exit code.

    `environments` are what `describe_environments` says of the study, where that is known already.
    """
    _, path = checked_path("study_dir", study.default_path() if study_dir is None else study_dir, dashboard)
    check_cluster(cluster)
    for arm in study.arms:
        check_limits(arm.config)
    environments = environments or describe_environments(study)
    with open_study_directory(path, study, command) as directory:
        runs, unreadable = directory.finished_runs()
        if not any_version:
            check_one_version(runs.values(), directory.made_with, len(runs) < len(study.schedule()), path)
        start_forkserver(path / "forkserver.log")
        finished = {arm.name: tuple(runs[a, seed] for a, seed in runs if a == arm.name) for arm in study.arms}
        elapsed = time.monotonic() - process_started()
        evaluations = {arm.name: arm.config.evaluation for arm in study.arms}
        targets = {environments[arm].target(one.target_return) for arm, one in evaluations.items() if one.eval_episodes}
        everyone = all(one.eval_episodes for one in evaluations.values())
        target = targets.pop() if everyone and len(targets) == 1 else None  # that counts as solved in all arms
        env_id, planned = study.arms[0].config.env, len(study.schedule())
        view = StudyView(*console_for(dashboard), StudyStatus(env_id, str(path), target, planned, finished, elapsed))
        return _Runner(directory, environments, target, runs, view, cluster).run(unreadable)


def describe_environments(study: Study) -> dict[str, Any]:
    """The environment of each arm, tried once; raises ConfigError."""
    return {arm.name: describe_environment(arm.config) for arm in study.arms}


def comparison_of(
    study: Study,
    found: Mapping[tuple[str, int], Run],
    lost: Mapping[str, LostUpdates],
    target: float | None,
    command: str,
) -> Comparison:
    """What a study whose runs are all there has found; `lost` is by arm, and `target` counts as solved in all arms."""
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


@dataclass
class _Runner:
    """Trains the missing runs of a study one after the other, and reports."""

    directory: StudyDirectory
    environments: Mapping[str, Any]  # by arm
    target: float | None
    runs: dict[tuple[str, int], Run]  # with an outcome, by arm and seed
    view: StudyView
    cluster: str | None = None

    def run(self, notes: Sequence[str] = ()) -> tuple[Comparison | None, int]:
        """Print the notes, train the missing runs, measure what is lost, report."""
        try:
            with self.view:
                for note in notes:
                    self.view.print_line(note)
                for arm, seed in self.directory.study.schedule():
                    if (arm.name, seed) not in self.runs and (code := self._train(arm, seed)):
                        return None, code
                comparison = self._compared()
        except KeyboardInterrupt:  # between two runs; within one the supervisor handles it
            self._print_stop("interrupted")
            return None, ExitCode.INTERRUPTED
        self._report(comparison)
        return comparison, ExitCode.FINISHED

    def _train(self, arm: Arm, seed: int) -> int:
        """Train one run; its exit code where the study must not continue."""
        self.view.begin(arm.name, seed)
        path = self.directory.run_path(arm, seed)
        shutil.rmtree(path, ignore_errors=True)  # an unfinished run is rerun
        with closing(open_run_directory(path)) as files, Signals() as signals:
            parts = arm.run(seed), self.environments[arm.name], files, self.view, signals, time.monotonic()
            summary = supervise(*parts, cluster=self.cluster)
            stopped_by = signals.seen[0] if signals.seen else None
        code = summary.exit_code or ExitCode.FINISHED
        if is_outcome(summary) and code in (ExitCode.FINISHED, ExitCode.NUMERICS):  # not where its last save failed
            try:
                run = self.runs[arm.name, seed] = self.directory.read_run(arm, seed)
                self.view.finished(run)
                code = ExitCode.FINISHED
            except UnreadableRunError as error:
                self.view.print_line(str(error))
                code = ExitCode.DISK
        if stopped_by is not None:  # a run that was solved meanwhile counts, and is the last all the same
            self._print_stop("interrupted")
            return 128 + stopped_by
        if code:
            self._print_stop(f"{arm.name} seed {seed} failed: {summary.reason}", path / "logs")
        return code

    def _lost_updates(self) -> dict[str, LostUpdates]:
        """Of each arm with several workers."""
        from workers.comparison.lost_updates import measure_lost_updates

        versions = [version.facts for version in versions_of(self.runs.values())]
        lost = self.directory.lost_updates(versions)
        if self.directory.made_with not in versions:  # runs of other versions: not what this one loses
            return lost
        for arm in self.directory.study.arms:
            if arm.config.workers == 1 or arm.name in lost:
                continue
            self.view.report(f"{arm.name}: counting what pushes lose")
            try:
                with tempfile.TemporaryDirectory(dir=self.directory.path) as folder:
                    lost[arm.name] = measure_lost_updates(arm.config, self.environments[arm.name], Path(folder))
            except RuntimeError as error:  # a study whose runs are all there ends with its report
                self.view.report(f"{arm.name}: not counted: {error}")
            self.directory.write_lost_updates(lost)
        return lost

    def _compared(self) -> Comparison:
        """What all runs have shown, with what is measured beside them."""
        from workers.comparison.gradient_variance import is_of_interest, measure

        study = self.directory.study
        comparison = comparison_of(study, self.runs, self._lost_updates(), self.target, self.directory.command)
        if not is_of_interest(study.factors, study.arms):
            return comparison
        self.view.report("measuring how the gradient varies at equal parameters")
        gradients = measure(study.arms, self.environments[study.arms[0].name], comparison.arms)
        return replace(
            comparison, arms=tuple(replace(arm, gradient=gradients.get(arm.name)) for arm in comparison.arms)
        )

    def _report(self, comparison: Comparison) -> None:
        """Write everything that a finished study leaves behind, and print the tables."""
        directory = self.directory
        sentences = findings(comparison)
        directory.write_results(comparison, sentences)
        files = ["comparison.json", "runs.csv", *_write_report(comparison, directory.path)]
        show_comparison(self.view, comparison, sentences, [f"{directory.path}/{name}" for name in files])

    def _print_stop(self, why: str, logs: Path | None = None) -> None:
        """Print why the study ends early, what there is of it, and how to resume it."""
        self.view.stop()
        kept = f"{len(self.runs)} of {len(self.directory.study.schedule())} runs, in {self.directory.path}"
        rows = {"logs": str(logs or ""), "kept": kept, "resume": self.directory.command}
        print(f"\n{clean(why)}", *(f"  {name:<8}{clean(text)}" for name, text in rows.items() if text), sep="\n")


def show_comparison(view: StudyView, comparison: Comparison, sentences: Sequence[str], files: Sequence[str]) -> None:
    """Leave the last frame where it is; print the tables, the findings and the files below it."""
    view.stop()
    view.print(lambda: "")
    view.print(lambda: render_comparison(comparison, sentences, view.width))
    view.print(lambda: Frame([[], *([(clean(file), "")] for file in files)]))


def _write_report(comparison: Comparison, path: Path) -> list[str]:
    """Figures and report.html where their packages are installed; the names of the files."""
    try:
        from workers.comparison.figures import log_rank, save_figures
        from workers.comparison.page import render_page
    except ImportError:
        return [f"(for figures and report.html: {install_command('report')})"]
    figures = save_figures(comparison, path / "figures")
    (path / "report.html").write_text(render_page(comparison, figures, log_rank(comparison)), encoding="utf-8")
    return ["report.html", f"figures/ ({len(figures)} files)"]
