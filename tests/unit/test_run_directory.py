"""Where a run's files go: the directory that the user means, and nobody else's."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from a3c.config import Config, ConfigError
from a3c.files import absolute_path, typed_path
from workers.runs.directory import new_run_dir, open_run_directory, open_table


@pytest.fixture
def deleted(tmp_path: Path) -> Iterator[None]:
    """A current folder that is gone."""
    before, folder = os.getcwd(), tmp_path / "gone"
    folder.mkdir()
    os.chdir(folder)
    folder.rmdir()
    yield
    os.chdir(before)


def test_runs_begun_in_one_moment_get_directories_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda form: "20260101-000000")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_run_dir(tmp_path / "runs", Config()), range(8)))
    assert len(set(made)) == 8
    assert {path.name for path in made} == {
        "CartPole-v1-async-20260101-000000",
        *(f"CartPole-v1-async-20260101-000000-{count}" for count in range(2, 9)),
    }


@pytest.mark.parametrize("env", ["module:Env-v0", "../../up-v0", "a/b-v1", "name with spaces-v0", "x" * 300])
def test_a_directory_is_named_after_any_environment(tmp_path: Path, env: str) -> None:
    assert new_run_dir(tmp_path, Config(env=env)).parent == tmp_path


@pytest.mark.parametrize("obstacle", ["file", "dangling link"])
def test_a_place_that_cannot_hold_runs_is_told(tmp_path: Path, obstacle: str) -> None:
    runs = tmp_path / "runs"
    runs.touch() if obstacle == "file" else runs.symlink_to("nowhere")
    with pytest.raises(ConfigError, match=f"^run_dir: '{runs}' cannot be written: "):
        new_run_dir(runs, Config())


def test_the_home_directory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert typed_path("run_dir", "~/runs/one") == Path("/home/ada/runs/one")
    assert typed_path("run_dir", Path("~")) == Path("/home/ada")
    assert typed_path("run_dir", "a~/b") == Path("a~/b")


def test_without_a_home_directory_its_sign_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user whom the system does not know
    with pytest.raises(ConfigError, match=r"^run_dir: '~/runs': the home directory is unknown; set HOME"):
        typed_path("run_dir", "~/runs")


@pytest.mark.parametrize("typed", ["", "a\0b"])
def test_what_is_no_path_is_refused(typed: str) -> None:
    with pytest.raises(ConfigError, match=r"^study_dir: expected a path, got '"):
        typed_path("study_dir", typed)


@pytest.mark.usefixtures("deleted")
def test_in_a_folder_that_is_gone_only_an_absolute_path_will_do() -> None:
    assert absolute_path("run_dir", Path("/somewhere")) == Path("/somewhere")
    with pytest.raises(ConfigError, match=r"^run_dir: 'runs' is in the current folder, which has been deleted"):
        absolute_path("run_dir", Path("runs"))


def test_messages_name_a_directory_as_the_user_does(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    with pytest.raises(ConfigError, match=r"^run_dir: 'my runs/one' already holds a run; .* resume 'my runs/one'$"):
        open_run_directory(tmp_path, shown="my runs/one")
    held = open_run_directory(tmp_path, resume=True, shown="one")
    with pytest.raises(ConfigError, match=r"^run_dir: 'two' is in use by process"):
        open_run_directory(tmp_path, resume=True, shown="two")
    held.close()


def test_a_table_of_an_earlier_version_keeps_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "evaluations.csv"
    path.write_text("mean,seed\n1.0,2\n")
    table = open_table(path, ["mean", "seed", "critic_bias"])
    table.write({"mean": 3.0, "seed": 4, "critic_bias": 5.0})
    assert path.read_text() == "mean,seed\n1.0,2\n3.0,4\n"
