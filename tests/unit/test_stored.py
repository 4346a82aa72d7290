"""What a run directory says of its run, and what of it may be otherwise when the run goes on."""

import json
from pathlib import Path
from typing import Any

import pytest

from a3c.config import CheckpointError, Config, ConfigError
from workers.runs.resume import changed, nothing_to_do, stored_config

CONFIG = Config.from_options({"mode": "sync", "workers": 3, "seed": 7, "max_env_steps": 1000})


def test_a_configuration_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    content = {"options": CONFIG.to_options(), "versions": {"torch": "2"}}
    (tmp_path / "config.json").write_text(json.dumps(content))
    config, stored = stored_config(tmp_path)
    assert config == CONFIG
    assert stored["versions"] == {"torch": "2"}


def test_where_there_is_no_configuration_there_is_no_run_to_resume(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: No such file or directory; there is no run to resume"):
        stored_config(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"7",
        b"{}",
        b'{"options": 7}',
        b'{"options": {"workers": -1}}',
        b'{"options": {"workers": "many"}}',
        b'{"options": {"wokers": 4}}',
        b"[" * 100_000,
    ],
    ids=lambda content: content[:30].decode(errors="replace"),
)
def test_a_configuration_that_cannot_be_understood_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be understood: ."):
        stored_config(tmp_path)


def test_what_is_not_changed_stays(tmp_path: Path) -> None:
    assert changed(CONFIG, None, None) == CONFIG
    assert changed(CONFIG, 5000, None).to_options() == CONFIG.to_options() | {"max_env_steps": 5000}


@pytest.mark.parametrize("mode", ["async", "locked"])
def test_the_number_of_workers_can_be_changed_where_nothing_depends_on_it(mode: str) -> None:
    config = Config.from_options(CONFIG.to_options() | {"mode": mode})
    assert changed(config, None, 5).to_options() == config.to_options() | {"workers": 5}


def test_a_sync_run_goes_on_with_as_many_workers_as_it_had() -> None:
    assert changed(CONFIG, None, 3) == CONFIG
    with pytest.raises(ConfigError, match="workers: a sync run is resumed with as many as it had, 3"):
        changed(CONFIG, None, 4)


@pytest.mark.parametrize(("steps", "workers", "name"), [(0, None, "max_env_steps"), (None, 0, "workers")])
def test_what_no_run_can_have_is_refused(steps: int | None, workers: int | None, name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: "):
        changed(Config.from_options(CONFIG.to_options() | {"mode": "async"}), steps, workers)


@pytest.mark.parametrize(
    ("summary", "max_env_steps", "why"),
    [
        ({"status": "solved", "env_steps": 500}, 1000, "is solved"),
        ({"status": "budget_exhausted", "env_steps": 1004}, 1000, "has spent its budget of 1,000 env steps"),
        ({"status": "budget_exhausted", "env_steps": 1000}, 1000, "has spent its budget of 1,000 env steps"),
        ({"status": "budget_exhausted", "env_steps": 1000}, 1001, None),
        ({"status": "interrupted", "env_steps": 1004}, 1000, None),
        ({"status": "failed", "env_steps": 500}, 1000, None),
        ({"status": "budget_exhausted"}, 1000, None),
        ([], 1000, None),
    ],
)
def test_a_run_that_has_come_to_its_end_need_not_go_on(
    tmp_path: Path, summary: Any, max_env_steps: int, why: str | None
) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    answer = nothing_to_do(tmp_path, changed(CONFIG, max_env_steps, None))
    assert answer is None if why is None else answer is not None and answer.startswith(why)


@pytest.mark.parametrize("content", [None, b"", b'{"status": "sol'])
def test_a_run_that_was_killed_before_it_had_a_summary_goes_on(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "summary.json").write_bytes(content)
    assert nothing_to_do(tmp_path, CONFIG) is None


@pytest.mark.parametrize(
    ("best", "solved"),
    [
        ({"target_return": 475.0, "evaluation": {"verification": True, "mean": 475.0}}, True),
        ({"target_return": 475.0, "evaluation": {"verification": False, "mean": 475.0}}, False),
        ({"target_return": 475.0, "evaluation": {"verification": True, "mean": 474.9}}, False),
        ({"target_return": None, "evaluation": {"verification": True, "mean": 475.0}}, False),
        ({"target_return": 475.0, "evaluation": None}, False),
        ({"target_return": 475.0}, False),
        ([], False),
    ],
)
def test_a_run_that_was_killed_after_it_had_saved_its_solution_is_solved(
    tmp_path: Path, best: Any, solved: bool
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.json").write_text(json.dumps(best))
    assert nothing_to_do(tmp_path, CONFIG) == ("is solved" if solved else None)
