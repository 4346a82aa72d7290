"""Bad configurations by the hundred: each is refused in one line that names what is wrong, before anything starts."""

import random
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.chaos.configurations import BadConfiguration, bad_configurations, generate
from tests.process.command import COMMAND


@pytest.mark.parametrize("count", [150, pytest.param(500, marks=pytest.mark.long)])
def test_bad_configurations_are_refused(count: int) -> None:
    outcome = bad_configurations(count, seed=1)
    assert not outcome.lost, f"{outcome.lost} were not; the first: {outcome.detail}"
    assert outcome.fired == count


def test_so_are_two_dozen_of_them_as_commands(tmp_path: Path) -> None:
    def refused(bad: BadConfiguration) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*COMMAND, *bad.arguments], capture_output=True, text=True, timeout=60, cwd=tmp_path)

    rng = random.Random(2)
    commands = [generate(rng) for _ in range(24)]
    with ThreadPoolExecutor(2) as pool:
        for bad, result in zip(commands, pool.map(refused, commands), strict=True):
            assert result.returncode == 2, (bad, result.stderr)
            assert result.stdout == ""
            assert len(result.stderr.splitlines()) == 1, (bad, result.stderr)
            assert any(name in result.stderr for name in bad.names), (bad, result.stderr)
    assert not list(tmp_path.iterdir())
