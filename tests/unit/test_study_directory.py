"""Which runs of a study's directory count, are made again, or are refused, whatever its files hold."""

import contextlib
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from a3c import ConfigError
from tests.unit.comparison_samples import open_finished, sample_run, write_run, write_study
from workers import compare
from workers.comparison.results import Comparison
from workers.comparison.stored_runs import check_one_version, versions_of
from workers.comparison.study import Study, StudyDirectory, open_study_directory, plan
from workers.runs.program import provenance

OPTIONS: dict[str, Any] = {"mode": ["async", "sync"], "workers": 1}
STUDY = plan({"mode": ["async", "sync"], "workers": [1]}, seeds=2)
FILES = ("summary.json", "config.json", "evaluations.csv", "staleness.csv", "updates.csv")
OTHER = {"git_commit": "c" * 40, "source_sha256": "d" * 64}


def ended(tmp_path: Path, status: str, exit_code: int | None, reason: str = "") -> bool:
    """Whether a run that ended like this counts."""
    study = plan({"mode": ["async", "sync"]}, seeds=1)
    arm = study.arms[0]
    run = sample_run(arm.name, 0, 8_000.0 if status == "solved" else 90_000.0)
    summary = replace(run.summary, status=status, exit_code=exit_code, reason=reason)
    with open_study_directory(tmp_path / "study", study, "") as directory:
        write_run(directory.run_path(arm, 0), replace(run, summary=summary), arm.run(0))
        return bool(directory.finished_runs()[0])


def test_a_run_counts_where_it_has_an_outcome(tmp_path: Path) -> None:
    counting = [("solved", 0), ("budget_exhausted", 0), ("failed", 5), ("solved", None)]
    others = [("failed", 3), ("failed", 74), ("failed", None), ("interrupted", 130), ("interrupted", 143)]
    for place, (status, exit_code) in enumerate(counting + others):
        assert ended(tmp_path / str(place), status, exit_code) == ((status, exit_code) in counting)


def test_a_run_that_was_killed_is_made_again_without_a_word(tmp_path: Path) -> None:
    with open_finished(tmp_path / "study", STUDY) as directory:
        (directory.run_path(STUDY.arms[0], 1) / "summary.json").unlink()
        found, unreadable = directory.finished_runs()
    assert sorted(found) == [("async", 0), ("sync", 0), ("sync", 1)]
    assert unreadable == []


def test_a_summary_of_a_later_version_is_read(tmp_path: Path) -> None:
    with open_finished(tmp_path / "study", STUDY) as directory:
        path = directory.run_path(STUDY.arms[0], 0) / "summary.json"
        content = {name: value for name, value in json.loads(path.read_text()).items() if name != "exit_code"}
        path.write_text(json.dumps(content | {"of_a_later_version": [1]}))
        found, unreadable = directory.finished_runs()
    assert (len(found), unreadable) == (4, [])


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("summary.json", lambda text: text[: len(text) // 2], "summary.json: cannot be read"),
        ("summary.json", lambda text: "[]", "summary.json: cannot be read: not a JSON object"),
        ("summary.json", lambda text: text.replace('"races"', '"rases"'), "summary.json: has no 'races'"),
        ("summary.json", lambda text: re.sub(r'"env_steps": \d+', '"env_steps": "8k"', text), "env_steps is '8k'"),
        ("summary.json", lambda text: text.replace('"solved_seconds"', '"x"'), "has no 'solved_seconds'"),
        ("config.json", lambda text: "", "config.json: cannot be read"),
        ("config.json", lambda text: None, "config.json: is missing"),
        ("evaluations.csv", lambda text: text.replace("mean", "men"), "evaluations.csv: has no 'mean'"),
        ("evaluations.csv", lambda text: text[:-40], "evaluations.csv: cannot be read"),
        ("evaluations.csv", lambda text: None, "evaluations.csv: is missing"),
        ("staleness.csv", lambda text: text + "9,-1\n", "staleness.csv: cannot be read"),
        ("updates.csv", lambda text: "updates,env_steps,mean_return,advantage_magnitude\n1,2\n", "updates.csv: cannot"),
    ],
)
def test_a_damaged_run_is_one_line_and_made_again(
    tmp_path: Path, name: str, damage: Callable[[str], str | None], words: str
) -> None:
    with open_finished(tmp_path / "study", STUDY) as directory:
        path = directory.run_path(STUDY.arms[0], 0) / name
        content = damage(path.read_text() if path.exists() else "")
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(content)
        found, unreadable = directory.finished_runs()
    assert len(found) == 3
    (line,) = unreadable
    assert words in line
    assert line.endswith("; rerunning it")
    assert "\n" not in line


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(FILES), st.integers(0, 4000), st.binary(max_size=6), st.booleans())
def test_no_damage_of_a_run_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, at: int, put: bytes, cut: bool
) -> None:
    study = plan({"mode": ["async", "sync"]}, seeds=1)
    with open_finished(tmp_path_factory.mktemp("damaged") / "study", study) as directory:
        path = directory.run_path(study.arms[0], 0) / name
        before = path.read_bytes() if path.exists() else b""
        path.write_bytes(before[:at] + put + (b"" if cut else before[at + len(put) :]))
        with contextlib.suppress(ConfigError):  # other options
            found, unreadable = directory.finished_runs()
            assert len(found) + len(unreadable) in (1, 2)


def test_a_table_that_a_spreadsheet_has_saved_is_read(tmp_path: Path) -> None:
    with open_finished(tmp_path / "study", STUDY) as directory:
        path = directory.run_path(STUDY.arms[0], 0) / "evaluations.csv"
        before = directory.read_run(STUDY.arms[0], 0)
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
        assert directory.read_run(STUDY.arms[0], 0) == before


def test_a_run_that_was_resumed_with_another_budget_is_refused(tmp_path: Path) -> None:
    with open_finished(tmp_path / "study", STUDY) as directory:
        path = directory.run_path(STUDY.arms[0], 0) / "config.json"
        path.write_text(path.read_text().replace('"max_env_steps": 200000', '"max_env_steps": 400000'))
        with pytest.raises(ConfigError, match=r"other options \(max_env_steps 400000, not 200000\); move it away"):
            directory.finished_runs()


# -- the study itself -------------------------------------------------------------------------------------------------


def test_a_damaged_study_is_refused_in_one_line(tmp_path: Path) -> None:
    for content in (b"", b"{", b"[]", b"{}", b'{"definition": 3}', b'{"definition": {"arms": [1]}}', b"\xff"):
        (tmp_path / "study.json").write_bytes(content)
        refused = pytest.raises(
            ConfigError, match=r"study.json' is damaged or of no study .*; choose another directory"
        )
        with refused as error:
            open_study_directory(tmp_path, STUDY, "").__enter__()
        assert "\n" not in str(error.value)
        assert (tmp_path / "study.json").read_bytes() == content


def test_a_study_that_was_killed_while_it_began_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / ".study.json.999999999.tmp").write_text("{")
    (tmp_path / ".lock").write_text("999999999")
    with open_study_directory(tmp_path, STUDY, ""):
        pass
    assert (tmp_path / "study.json").exists()


def test_a_study_of_a_version_with_fewer_options_is_the_same_study(tmp_path: Path) -> None:
    with open_study_directory(tmp_path / "study", STUDY, ""):
        pass
    path = tmp_path / "study" / "study.json"
    content = json.loads(path.read_text())
    for options in content["definition"]["arms"].values():
        del options["log_interval"]
    path.write_text(json.dumps(content))
    with open_study_directory(tmp_path / "study", STUDY, ""):
        pass


def test_a_file_where_the_study_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study").write_text("thesis")
    with pytest.raises(ConfigError, match=r"study_dir: .* cannot be written"):
        open_study_directory(tmp_path / "study", STUDY, "").__enter__()


def test_lost_updates_that_cannot_be_read_are_measured_again(tmp_path: Path) -> None:
    with open_study_directory(tmp_path / "study", STUDY, "") as directory:
        for content in ("", "[]", "{", '{"async": {"lost": 1}}', '{"made_with": {}, "arms": 3}'):
            (directory.path / "lost_updates.json").write_text(content)
            assert directory.lost_updates([directory.made_with, {}]) == {}


# -- versions ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def mixed(path: Path, study: Study = STUDY, **made_with: Any) -> Iterator[StudyDirectory]:
    """A study whose first run another version has made."""
    with open_finished(path, study) as directory:
        run = directory.run_path(study.arms[0], 0) / "config.json"
        run.write_text(json.dumps(json.loads(run.read_text()) | made_with))
        yield directory


@pytest.mark.parametrize(
    ("made_with", "words"),
    [
        (OTHER, r"git_commit cccccccccccc, not "),
        ({"git_commit": f"{'c' * 40}-dirty"}, "git_commit cccccccccccc-dirty, not "),
        ({"source_sha256": "d" * 64}, "source_sha256 dddddddddddd, not "),
        ({"source_sha256": None}, "source_sha256 unknown, not "),
        ({"versions": provenance()["versions"] | {"torch": "1.0"}}, "torch 1.0, not "),
        ({"machine": {"platform": "BeOS", "cpus": 1}}, "platform BeOS, not "),
    ],
)
def test_runs_of_several_versions_are_refused_by_name(tmp_path: Path, made_with: dict[str, Any], words: str) -> None:
    with mixed(tmp_path / "study", **made_with) as directory:
        runs, _ = directory.finished_runs()
        with pytest.raises(ConfigError, match="holds runs of another version of the program") as error:
            check_one_version(list(runs.values()), directory.made_with, False, directory.path)
    assert f"runs/async-seed-0 with {words}" in str(error.value)
    assert "--study-dir" in str(error.value) and "--any-version" in str(error.value)
    assert "\n" not in str(error.value)


def reported(path: Path, **options: Any) -> tuple[Comparison | None, str]:
    """What `compare` returns and prints."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        comparison = compare(**OPTIONS, seeds=2, study_dir=path, dashboard="off", **options)
    return comparison, output.getvalue()


def test_a_finished_study_of_another_version_is_reported_again_under_that_version(tmp_path: Path) -> None:
    write_study(tmp_path / "study", STUDY, **OTHER)
    comparison, _ = reported(tmp_path / "study")
    assert comparison is not None
    assert [version.name for version in comparison.versions] == ["c" * 12]
    assert comparison.machine["git_commit"] == "c" * 40


def test_it_gets_no_more_seeds_from_this_one(tmp_path: Path) -> None:
    write_study(tmp_path / "study", STUDY, **OTHER)
    with pytest.raises(
        ConfigError, match="runs/async-seed-0, runs/sync-seed-0, runs/sync-seed-1 and 1 more with git_co"
    ):
        compare(**OPTIONS, seeds=3, study_dir=tmp_path / "study", dashboard="off")


def test_runs_of_several_versions_are_listed_one_by_one_where_the_user_wants_them(tmp_path: Path) -> None:
    with mixed(tmp_path / "study", **OTHER):
        pass
    with pytest.raises(ConfigError, match="--any-version"):
        reported(tmp_path / "study")
    comparison, output = reported(tmp_path / "study", any_version=True)
    assert comparison is not None
    assert [version.runs for version in comparison.versions] == [
        ("runs/async-seed-0",),
        ("runs/async-seed-1", "runs/sync-seed-0", "runs/sync-seed-1"),
    ]
    assert "Runs of 2 versions: cccccccccccc made runs/async-seed-0; " in " ".join(output.split())
    stored = json.loads((tmp_path / "study" / "comparison.json").read_text())
    assert [version["name"] for version in stored["versions"]] == [version.name for version in comparison.versions]
    assert any("made by 2 versions" in sentence for sentence in stored["findings"])
    rows = (tmp_path / "study" / "runs.csv").read_text().splitlines()
    assert [row.endswith(",cccccccccccc") for row in rows[1:]] == [True, False, False, False]
    if (tmp_path / "study" / "report.html").exists():
        assert "cccccccccccc made runs/async-seed-0" in (tmp_path / "study" / "report.html").read_text()


def test_two_dirty_trees_of_one_commit_are_two_versions() -> None:
    facts = [{"git_commit": f"{'a' * 40}-dirty", "source_sha256": letter * 64} for letter in "de"]
    runs = [replace(sample_run("async", seed, 8_000.0), path=str(seed), made_with=facts[seed]) for seed in (0, 1)]
    assert [version.name for version in versions_of(runs)] == [
        f"aaaaaaaaaaaa-dirty, source_sha256 {letter * 12}" for letter in "de"
    ]


def test_reporting_a_study_twice_leaves_a_row_per_run(tmp_path: Path) -> None:
    write_study(tmp_path / "study", STUDY)
    for _ in range(2):
        reported(tmp_path / "study")
        assert len((tmp_path / "study" / "runs.csv").read_text().splitlines()) == 5
