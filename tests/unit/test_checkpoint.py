"""Checkpoints: what is saved comes back, the last ones stay, and a damaged one is passed over in words."""

import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from a3c.checkpoint import Training, load_checkpoint, load_policy, load_training, save_checkpoint
from a3c.config import CheckpointError
from a3c.files import write_durably
from a3c.manifest import read_part
from tests.chaos.checkpoints import loaded, save
from tests.unit.networks import mlp
from workers.playing.evaluating import evaluate_checkpoint

FACTS = {"env_id": "CartPole-v1", "max_episode_steps": 5, "updates": 7, "evaluation": {"mean": 9.5}}


def manifest_of(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_bytes()))


def parts_of(path: Path) -> list[Path]:
    """The weights and, where there are any, the tensors and facts that a manifest names."""
    return [
        path.parent / entry["file"]
        for entry in manifest_of(path).values()
        if isinstance(entry, dict) and "file" in entry
    ]


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_policy_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = mlp(4, 2, [3, 5], value_scale=20)
    path = save_checkpoint(tmp_path, "best", model, FACTS)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.path == path == tmp_path / "best.json"
    assert (checkpoint.env_id, checkpoint.max_episode_steps, checkpoint.skipped) == ("CartPole-v1", 5, ())
    assert FACTS.items() <= checkpoint.manifest.items()
    observations = torch.randn(6, 4)
    for ours, theirs in zip(model(observations), checkpoint.model(observations), strict=True):
        assert torch.equal(ours, theirs)


def test_training_comes_back_whatever_its_tensors_shapes_and_types(tmp_path: Path) -> None:
    flat = torch.arange(12, dtype=torch.float32)
    tensors = {
        "whole": flat,
        "view of the same memory": flat[2:6].view(2, 2).T,
        "empty": torch.zeros(0, 12),
        "scalar": torch.tensor(2**53 + 1),
        "not finite": torch.tensor([float("nan"), float("inf"), -0.0]),
        **{str(kind): torch.tensor([1, 0, 1]).to(kind) for kind in (torch.float64, torch.uint8, torch.bool)},
    }
    facts = {"generator": {"state": 2**128 - 1}, "history": "x" * 2**21, "none": None, "lists": [[1, 2.5], []]}
    save_checkpoint(tmp_path, "latest", mlp(4, 2, []), FACTS, Training(tensors, facts), keep=3)
    checkpoint, training = load_training(tmp_path)
    assert checkpoint.manifest["updates"] == 7
    assert training.facts == facts
    assert training.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        back = training.tensors[name]
        assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
        assert back.numpy().tobytes() == tensor.contiguous().numpy().tobytes(), name


def test_the_last_checkpoints_stay_and_nothing_of_those_before_them(tmp_path: Path) -> None:
    for updates in range(1, 7):
        save(tmp_path, updates, keep=3)
    copies = sorted(path.name for path in tmp_path.glob("latest-0*.json") if len(path.stem) == 19)
    assert copies == [f"latest-{updates:012d}.json" for updates in (4, 5, 6)]
    needed = {part for copy in copies for part in parts_of(tmp_path / copy)}
    assert len(needed) == 9
    assert set(tmp_path.iterdir()) == needed | {tmp_path / name for name in [*copies, "latest.json"]}
    for copy in copies:
        assert load_checkpoint(tmp_path / copy).path == tmp_path / copy


def test_one_checkpoint_to_keep_needs_no_copies(tmp_path: Path) -> None:
    save(tmp_path, 1, keep=3)
    save(tmp_path, 2, keep=1)
    assert set(tmp_path.iterdir()) == {tmp_path / "latest.json", *parts_of(tmp_path / "latest.json")}
    assert loaded(tmp_path) == (2, ())


def test_the_same_update_can_be_saved_again_and_heals_its_damage(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    before = contents(tmp_path)
    damage(parts_of(path)[1])
    save(tmp_path, 1)
    assert contents(tmp_path) == before


def test_a_run_taken_up_from_an_older_checkpoint_leaves_the_later_ones_behind(tmp_path: Path) -> None:
    for updates in (5, 6, 9, 7):
        save(tmp_path, updates)
    assert not (tmp_path / "latest-000000000009.json").exists()
    assert loaded(tmp_path) == (7, ())
    (tmp_path / "latest.json").unlink()
    assert loaded(tmp_path) == (7, ())


def test_best_and_latest_do_not_touch_each_other(tmp_path: Path) -> None:
    save(tmp_path, 1, keep=1, name="best")
    best = contents(tmp_path)
    for updates in (1, 2, 3, 4):
        save(tmp_path, updates, keep=2)
    assert best.items() <= contents(tmp_path).items()
    latest = {name: content for name, content in contents(tmp_path).items() if name.startswith("latest")}
    save(tmp_path, 5, keep=1, name="best")
    assert latest.items() <= contents(tmp_path).items()
    assert load_checkpoint(tmp_path).manifest["updates"] == 5
    assert not best.keys() - {"best.json"} & contents(tmp_path).keys()


def test_what_cannot_be_removed_does_not_fail_a_save(tmp_path: Path) -> None:
    for updates in (1, 2):
        save(tmp_path, updates, keep=1)
    before = contents(tmp_path)
    with mock.patch("a3c.files.os.unlink", side_effect=PermissionError(1, "not permitted")) as fault:
        save(tmp_path, 3, keep=1)
    assert fault.called
    assert before.keys() < contents(tmp_path).keys()
    save(tmp_path, 4, keep=1)
    assert len(contents(tmp_path)) == 4


def test_a_save_first_makes_room_by_removing_what_a_failed_one_left(tmp_path: Path) -> None:
    save(tmp_path, 1)
    before = contents(tmp_path)
    full = OSError(28, "No space left on device")

    def fill(path: Path, content: bytes) -> None:
        if path.suffix == ".json" and ".training." not in path.name:
            raise full
        write_durably(path, content)

    with mock.patch("a3c.manifest.write_durably", fill), pytest.raises(OSError, match="No space"):
        save(tmp_path, 2)
    assert len(contents(tmp_path)) == len(before) + 3
    with mock.patch("a3c.manifest.write_durably", side_effect=full), pytest.raises(OSError, match="No space"):
        save(tmp_path, 3)
    assert contents(tmp_path) == before


def test_a_part_that_a_damaged_manifest_may_have_named_stays(tmp_path: Path) -> None:
    for updates in (1, 2):
        save(tmp_path, updates, keep=2)
    parts = parts_of(tmp_path / "latest-000000000001.json")
    damage(tmp_path / "latest-000000000002.json")
    save(tmp_path, 3, keep=2)
    assert all(part.exists() for part in parts)
    save(tmp_path, 4, keep=2)
    assert not any(part.exists() for part in parts)


def test_what_could_not_be_read_back_is_not_saved(tmp_path: Path) -> None:
    save(tmp_path, 1)
    with pytest.raises(OSError, match=r"latest\.json"):
        save_checkpoint(tmp_path, "latest", mlp(2, 2, [4]), {**FACTS, "long": "x" * 2**20}, keep=3)
    assert loaded(tmp_path) == (1, ())


def test_a_damaged_best_is_passed_over_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for updates in (1, 2):
        save_checkpoint(folder, "latest", mlp(4, 2, []), {**FACTS, "updates": updates}, keep=2)
    save_checkpoint(folder, "best", mlp(4, 2, []), FACTS)
    damage(folder / "best.json")
    damage(parts_of(folder / "latest.json")[0])
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.manifest["updates"] == 1
    assert [str(folder / "best.json") in line for line in checkpoint.skipped] == [True, False]
    assert evaluate_checkpoint(str(tmp_path), episodes=1, seed=0)["checkpoint"] == str(checkpoint.path)
    said = capsys.readouterr().err.splitlines()
    assert said == [f"run_a3c.py: skipped a damaged checkpoint: {line}" for line in checkpoint.skipped]


def test_a_checkpoint_asked_for_by_name_is_never_replaced_by_another(tmp_path: Path) -> None:
    for updates in (1, 2):
        path = save(tmp_path, updates)
    older, newer = (parts_of(tmp_path / f"latest-{updates:012d}.json")[0] for updates in (1, 2))
    assert load_checkpoint(older).manifest["updates"] == 1
    damage(newer)
    for asked in (path, newer):
        with pytest.raises(CheckpointError, match=newer.name):
            load_checkpoint(asked)
    (tmp_path / "latest-abc.safetensors").touch()
    with pytest.raises(CheckpointError, match="no whole manifest"):
        load_checkpoint(tmp_path / "latest-abc.safetensors")


@pytest.mark.parametrize("asked", ["", "best.json"])
def test_a_checkpoint_that_is_replaced_while_it_is_read_is_not_damaged(asked: str, tmp_path: Path) -> None:
    save(tmp_path, 1, keep=1, name="best")
    replaced: list[Path] = []

    def read_after_a_save(manifest_path: Path, entry: dict[str, object]) -> bytes:
        if not replaced:
            replaced.append(save(tmp_path, 2, keep=1, name="best"))
            assert not (tmp_path / str(entry["file"])).exists()
        return read_part(manifest_path, entry)

    with mock.patch("a3c.checkpoint.read_part", read_after_a_save):
        checkpoint = load_checkpoint(tmp_path / asked)
    assert (checkpoint.manifest["updates"], checkpoint.skipped, len(replaced)) == (2, (), 1)


def test_a_run_whose_checkpoints_are_all_damaged_is_left_as_it_is(tmp_path: Path) -> None:
    for updates in (1, 2):
        save(tmp_path, updates, keep=2)
    for path in tmp_path.glob("*.training.json"):
        damage(path)
    before = contents(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"every checkpoint is damaged: .*training\.json: damaged.*\(and 1 more\)"
    ):
        load_training(tmp_path)
    assert contents(tmp_path) == before
    assert load_checkpoint(tmp_path).manifest["updates"] == 2  # the policy needs no facts


def test_a_run_without_a_checkpoint_is_told_from_no_run(tmp_path: Path) -> None:
    save(tmp_path, 1, name="best")
    with pytest.raises(CheckpointError, match="there is no checkpoint yet"):
        load_training(tmp_path)
    with pytest.raises(CheckpointError, match="no such run directory"):
        load_training(tmp_path / "none")
    with pytest.raises(CheckpointError, match="no such run directory or checkpoint"):
        load_checkpoint(tmp_path / "none")


def test_training_does_not_go_on_from_a_policy_alone(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, "latest", mlp(2, 2, [4]), FACTS)
    with pytest.raises(CheckpointError, match=r"latest\.json: holds a policy, but not"):
        load_training(tmp_path)


def test_a_checkpoint_of_the_first_format_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, 1, name="best", keep=1)
    manifest = {**manifest_of(path), "format": 1}
    del manifest["seal"], manifest["weights"]["bytes"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"best\.json: format '1', but 2 is read here"):
        load_checkpoint(tmp_path)


def test_a_checkpoint_of_a_later_format_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    save(tmp_path, 1, name="latest")
    with mock.patch("a3c.manifest.FORMAT", 3):
        save(tmp_path, 1, name="best")
    with pytest.raises(CheckpointError, match=r"best\.json: format '3', but 2 is read here"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_a_part_that_is_no_file_is_passed_over(kind: str, tmp_path: Path) -> None:
    for updates in (1, 2):
        path = save(tmp_path, updates)
    part = parts_of(path)[2]
    part.rename(tmp_path / "elsewhere")
    if kind == "directory":
        part.mkdir()
    else:
        os.mkfifo(part)
    updates, skipped = loaded(tmp_path)
    assert updates == 1
    assert [str(part) in line for line in skipped] == [True]


def test_a_checkpoint_whose_files_are_links_is_whole(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    (tmp_path / "store").mkdir()
    for file in (path, *parts_of(path)):
        file.rename(tmp_path / "store" / file.name)
        file.symlink_to(tmp_path / "store" / file.name)
    assert loaded(tmp_path) == (1, ())
    save(tmp_path, 2)
    assert loaded(tmp_path) == (2, ())


def test_a_link_to_a_manifest_elsewhere_is_followed(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "mine.json").symlink_to(tmp_path / "latest.json")
    assert load_checkpoint(tmp_path / "links" / "mine.json").manifest["updates"] == 1


def test_temporary_files_of_dead_writers_go_with_the_next_save(tmp_path: Path) -> None:
    left = tmp_path / f".latest.json.{os.getpid()}.tmp"
    left.touch()
    save(tmp_path, 1)
    assert not left.exists()


def put(folder: Path, name: str, updates: int, mean: object = None) -> None:
    """A checkpoint whose policy was evaluated, where a mean is given."""
    evaluation = {} if mean is None else {"evaluation": {"mean": mean}}
    facts = {"env_id": "E-v0", "max_episode_steps": 1, "updates": updates, **evaluation}
    save_checkpoint(folder, name, mlp(2, 2, [4]), facts)


@pytest.mark.parametrize(
    ("best", "latest", "chosen"),
    [
        ((5, 10.0), (9, None), "best"),
        ((5, 10.0), (9, 9.0), "best"),
        ((5, 10.0), (9, 10.0), "best"),
        ((5, 10.0), (9, 11.0), "latest"),
        ((5, -1e300), (9, 10**400), "best"),
        ((5, 10.0), (9, "11"), "best"),
        ((5, None), (9, 1.0), "latest"),
        ((0, 10.0), (9, None), "latest"),
        ((0, 10.0), (9, 3.0), "latest"),
        ((0, 10.0), (0, None), "best"),
    ],
)
def test_the_latest_takes_the_bests_place_where_it_is_known_to_be_better(
    best: tuple[int, Any], latest: tuple[int, Any], chosen: str, tmp_path: Path
) -> None:
    put(tmp_path, "best", *best)
    put(tmp_path, "latest", *latest)
    assert load_checkpoint(tmp_path).path.stem == chosen


def test_a_better_latest_that_is_damaged_gives_way_to_the_best(tmp_path: Path) -> None:
    put(tmp_path, "best", 5, 10.0)
    put(tmp_path, "latest", 9, 11.0)
    damage(tmp_path / json.loads((tmp_path / "latest.json").read_text())["weights"]["file"])
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.path.stem == "best"
    assert "latest" in checkpoint.skipped[0]


def test_where_actions_start_comes_back(tmp_path: Path) -> None:
    facts = {"env_id": "E-v0", "max_episode_steps": 1, "updates": 1}
    save_checkpoint(tmp_path, "best", mlp(2, 3, [4], action_start=-2), facts)
    assert load_checkpoint(tmp_path).model.head.start == -2
    assert set(load_policy(tmp_path)([[0.0, 0.0]]).tolist()) <= {-2, -1, 0}
