"""Whatever runs a study holds, it is compared, told and written without an error, and no two arms share a name."""

import json
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.unit.comparison_samples import BUDGET, sample_evaluation, sample_run
from tests.unit.test_dashboard import drawn
from workers import ExitCode
from workers.comparison import statistics
from workers.comparison.findings import findings
from workers.comparison.page import render_page
from workers.comparison.results import Comparison, LogRow, LostUpdates, Run
from workers.comparison.run_study import comparison_of
from workers.comparison.study import Study, open_study_directory, plan
from workers.comparison.study_view import StudyStatus, render_study
from workers.comparison.tables import render_comparison
from workers.comparison.text import shortened
from workers.runs.records import Evaluation, Races, Staleness

RETURNS = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, 500.0, math.nan, math.inf, -math.inf, 1e300]))
POSITIVE = st.one_of(st.just(0.0), st.floats(1e-6, 1e6))
KNOWN_OR_NOT = st.one_of(st.none(), POSITIVE)
STUDIES = (
    {"mode": ["async", "sync"]},
    {"workers": [1, 4, 2], "max_env_steps": [1000, 20_000]},
    {"entropy_coef": [0.01, 0.0], "mode": ["sync"]},
    {
        "learning_rate": [0.1234561, 0.1234562],
        "adam_beta2": [0.999, 0.99],
        "normalize_advantages": [True, False],
        "gamma": [0.9, 0.99],
        "value_scale": [1.0, 20.0],
    },
)


@pytest.fixture(scope="module", autouse=True)
def _fewer_resamples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "RESAMPLES", 20)
        yield


@st.composite
def evaluations(draw: st.DrawFn) -> Evaluation:
    steps, seconds, mean = draw(st.integers(0, BUDGET)), draw(POSITIVE), draw(RETURNS)
    return replace(sample_evaluation(steps, mean, draw(st.booleans())), seconds=seconds)


@st.composite
def runs(draw: st.DrawFn, arm: str, seed: int) -> Run:
    """A run that may have ended in any way that counts, and known anything or nothing meanwhile."""
    ending, judged = (
        draw(st.sampled_from(["solved", "budget_exhausted", "failed"])),
        draw(st.lists(evaluations(), max_size=4)),
    )
    best = judged[0] if judged and math.isfinite(judged[0].mean) else None
    pushes = tuple(draw(st.lists(st.integers(0, 50), max_size=4)))
    summary = replace(
        sample_run(arm, seed, 8000.0).summary,
        status=ending,
        exit_code=ExitCode.NUMERICS if ending == "failed" else 0,
        solved_env_steps=draw(st.integers(0, BUDGET)) if ending == "solved" else None,
        solved_seconds=draw(POSITIVE) if ending == "solved" else None,
        env_steps=draw(st.integers(0, BUDGET)),
        updates=sum(pushes),
        train_seconds=draw(POSITIVE),
        steps_per_second=draw(POSITIVE),
        cpu_seconds=draw(st.one_of(POSITIVE, st.just(math.nan))),
        evaluation=best,
        staleness=Staleness(1.0, 1.0, 2.0, len(pushes)) if any(pushes) else None,
        races=Races(draw(st.integers(0, 9)), 0),
        advantage_magnitude=draw(KNOWN_OR_NOT),
        policy_loss_variance=draw(KNOWN_OR_NOT),
    )
    log = tuple(LogRow(x, 48 * x, math.nan, draw(RETURNS)) for x in range(draw(st.integers(0, 3))))
    made_with = {"git_commit": draw(st.sampled_from(["a" * 40, "b" * 40 + "-dirty", None])), "cpus": 2}
    return Run(arm, seed, f"runs/{arm}-{seed}", summary, tuple(judged), pushes, log, made_with)


@st.composite
def comparisons(draw: st.DrawFn, options: Sequence[dict[str, list[Any]]] = STUDIES) -> tuple[Study, Comparison]:
    """A study of one to three seeds, in which an arm may be the copy of another."""
    study = plan(draw(st.sampled_from(options)), seeds=draw(st.integers(1, 3)))
    found = {(arm.name, seed): draw(runs(arm.name, seed)) for arm in study.arms[:2] for seed in study.seeds}
    for place, arm in enumerate(study.arms[2:]):
        copied = study.arms[place % 2].name
        found |= {(arm.name, seed): replace(found[copied, seed], arm=arm.name) for seed in study.seeds}
    lost = {study.arms[0].name: LostUpdates(10, draw(st.floats(0, 1)), 0.5, 0.5)} if draw(st.booleans()) else {}
    return study, comparison_of(study, found, lost, draw(st.sampled_from([None, 475.0, 0.0, -100.0])), "compare")


def strictly_read(path: Path) -> object:
    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(comparisons(), st.integers(20, 200))
def test_a_comparison_of_any_runs_is_told_and_written(
    tmp_path_factory: pytest.TempPathFactory, made: tuple[Study, Comparison], width: int
) -> None:
    study, comparison = made
    words = findings(comparison)
    lines = drawn(render_comparison(comparison, words, width), width + 400).splitlines()
    assert max(map(cell_len, lines)) <= width
    path = tmp_path_factory.mktemp("any") / "study"
    with open_study_directory(path, study, "compare") as directory:
        directory.write_results(comparison, words)
    assert strictly_read(path / "comparison.json")
    assert len((path / "runs.csv").read_text().splitlines()) == 1 + len(comparison.runs)
    assert render_page(comparison, [], {}).endswith("</html>\n")


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(comparisons(STUDIES[:3]))  # figures of many arms are below
def test_a_comparison_of_any_runs_has_its_figures_and_page(
    tmp_path_factory: pytest.TempPathFactory, made: tuple[Study, Comparison]
) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("scipy")
    from workers.comparison.figures import log_rank, save_figures

    comparison = made[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paths = save_figures(comparison, tmp_path_factory.mktemp("figures"))
        page = render_page(comparison, paths, log_rank(comparison))
    assert page.count("<figure>") == len(paths) // 2


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(comparisons(), st.integers(20, 200), st.integers(5, 60))
def test_a_study_of_any_runs_is_shown_live(made: tuple[Study, Comparison], width: int, height: int) -> None:
    study, comparison = made
    runs = {arm.name: tuple(run for run in comparison.runs if run.arm == arm.name) for arm in study.arms}
    target, current = comparison.target_return, (study.arms[-1].name, 0)
    status = StudyStatus("CartPole-v1", "runs/x", target, 3 * len(runs), runs, 1.0, current=current)
    lines = drawn(render_study(status, width, height), width + 400).splitlines()
    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width


# -- names ------------------------------------------------------------------------------------------------------------

FACTORS = st.lists(st.sampled_from(["async", "sync", "4", "20", "0.1", "0.004", "workers", "漢字", "x\n"]), max_size=9)
NAMES = st.lists(FACTORS.map(", ".join), min_size=1, max_size=60, unique=True)


@settings(max_examples=200, deadline=None)
@given(NAMES, st.integers(4, 60))
def test_shortened_names_fit_and_stay_different(names: Sequence[str], cells: int) -> None:
    short = shortened(names, cells)
    assert len(set(short)) == len(names)
    assert max(map(cell_len, short)) <= cells


def test_names_that_fit_stay_whole_and_others_are_numbered() -> None:
    names = ["async, learning_rate 0.001", "async, learning_rate 0.01", "sync"]
    assert shortened(names, 30) == names
    assert shortened(names, 15) == ["1 async, learn…", "2 async, learn…", "3 sync"]
    assert shortened(["async, learning_rate 0.01", "sync"], 15) == ["async, learnin…", "sync"]


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_every_row_of_every_table_names_its_own_arm(width: int) -> None:
    study = plan(STUDIES[-1], seeds=1)
    found = {(arm.name, 0): sample_run(arm.name, 0, 5000.0) for arm in study.arms}
    comparison = comparison_of(study, found, {}, 475.0, "compare")
    text = drawn(render_comparison(comparison, [], width), width + 100)
    short = shortened([arm.name for arm in study.arms], width // 3)
    assert len(set(short)) == 32
    for name, arm in zip(short, study.arms, strict=True):
        assert text.count(f"\n{name}  ") >= 2
        assert " ".join(text.split()).count(f"{name}: {arm.name}") == 1


def test_a_report_tells_all_arms_apart(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from workers.comparison.figures import save_figures

    study = plan({name: values[:2] for name, values in STUDIES[-1].items()} | {"value_scale": [20.0]}, seeds=1)
    found = {(arm.name, 0): sample_run(arm.name, 0, 5000.0) for arm in study.arms}
    comparison = comparison_of(study, found, {}, 475.0, "compare")
    paths = save_figures(comparison, tmp_path)
    figure, page = (tmp_path / "time_to_target.svg").read_text(), render_page(comparison, paths, {})
    for arm, name in zip(study.arms, shortened([arm.name for arm in study.arms], 36), strict=True):
        assert f">{name}</text>" in figure
        assert f'<th scope="row">{arm.name}</th>' in page
