"""Checkpoints that are damaged, cut, badly written or hostile: the last whole one is there, and the damage is told.

The faults themselves are in `tests.chaos`, which says of each what counts as a loss.
"""

from pathlib import Path

import pytest

from tests.chaos.checkpoints import bit_flips, disk_faults, kills_while_saving, truncations
from tests.chaos.malformed import malformed
from tests.chaos.outcome import Outcome


def assert_survived(outcome: Outcome, at_least: int) -> None:
    """Every fault that fired was survived, and so many fired."""
    assert outcome.lost == 0, outcome.detail
    assert outcome.survived == outcome.fired >= at_least, outcome


def test_a_flipped_bit_in_any_file_is_found_and_the_checkpoint_before_is_used(tmp_path: Path) -> None:
    assert_survived(bit_flips(300, tmp_path, seed=0), 300)


def test_a_file_cut_at_any_length_is_found_and_the_checkpoint_before_is_used(tmp_path: Path) -> None:
    assert_survived(truncations(tmp_path), 1200)


def test_a_disk_error_in_any_call_of_a_save_is_told_and_loses_nothing(tmp_path: Path) -> None:
    outcome = disk_faults(tmp_path)
    assert_survived(outcome, 150)
    for fault in ("open", "write", "fsync", "replace", "close"):
        assert f"No space left on device {fault}" in outcome.detail
    assert "short write" in outcome.detail


def test_a_saver_killed_at_any_moment_has_kept_what_it_announced(tmp_path: Path) -> None:
    assert_survived(kills_while_saving(25, tmp_path), 25)


def test_a_malformed_checkpoint_is_refused_in_one_line_within_bounds(tmp_path: Path) -> None:
    assert_survived(malformed(300, tmp_path), 290)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_ten_thousand_flipped_bits(tmp_path: Path) -> None:
    assert_survived(bit_flips(10_000, tmp_path, seed=1), 10_000)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_thousand_kills_while_saving(tmp_path: Path) -> None:
    outcome = kills_while_saving(1000, tmp_path, seed=1)
    assert_survived(outcome, 1000)
    assert not outcome.detail.startswith("0 of"), "no kill hit the middle of a file"


@pytest.mark.long
@pytest.mark.timeout(600)
def test_ten_thousand_malformed_checkpoints(tmp_path: Path) -> None:
    assert_survived(malformed(10_000, tmp_path, seed=1), 9_700)
