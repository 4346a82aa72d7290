"""Platforms without fork: the same program, its processes spawned."""

from pathlib import Path

import pytest

from a3c import load_policy
from workers import train
from workers.processes import start


def test_a_run_works_where_there_is_only_spawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "HAS_FORKSERVER", False)
    summary = train(workers=1, max_env_steps=1000, target_return=501.0, run_dir=tmp_path / "run", dashboard="off")
    assert summary.status == "budget_exhausted"
    assert summary.updates > 0
    assert not (tmp_path / "run" / "logs" / "forkserver.log").exists()
    assert load_policy(tmp_path / "run")
