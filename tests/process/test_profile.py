"""`--profile`: where each worker's time went."""

import json
from pathlib import Path

import pytest

from shared import PHASES
from tests.process.command import run_here

BUDGET = ("--target-return", 501, "--max-env-steps", 8000)


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_phases_of_every_worker_add_up_to_its_wall_time(mode: str, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    code, output = run_here("--mode", mode, "--workers", 3, *BUDGET, "--profile", "--run-dir", run_dir)
    assert code == 0, output
    profile = json.loads((run_dir / "summary.json").read_text())["profile"]
    assert len(profile) == 3
    for seconds in profile:
        assert sum(seconds[phase] for phase in PHASES) == pytest.approx(seconds["wall"], rel=0.05)
        assert all(seconds[phase] > 0 for phase in PHASES if phase not in ("idle", "network"))
        assert (seconds["idle"] > 0) == (mode == "sync")
        assert seconds["network"] == 0
    table = output[output.index("profile:") :].splitlines()
    assert table[1].split() == ["all", "worker", "0", "worker", "1", "worker", "2"]
    assert [line.split()[:2] for line in table[2:4]] == [["wall", "s"], ["CPU", "s"]]
    shares = table[4 : 4 + len(PHASES)]
    assert [line.split()[:2] for line in shares] == [[name, "%"] for name in (*PHASES[:-1], "other")]
    columns = zip(*(map(float, line.split()[2:]) for line in shares), strict=True)
    assert [sum(column) for column in columns] == pytest.approx([100] * 4, abs=1)
    assert max(map(len, table)) <= 80
