"""docs/metrics.md defines every number there is, and none that there is no more."""

import dataclasses
import io
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from a3c.checkpoint import save_checkpoint
from a3c.config import Config
from a3c.environments import describe
from a3c.networks import build
from shared.scoreboard import ROW
from tests.unit.status_samples import FAULTS, faulty_status, sample_status, sample_summary
from workers.console.drawing import Frame
from workers.console.panels import render
from workers.console.text import plain_line, summary_lines
from workers.playing.evaluating import evaluate_checkpoint
from workers.runs.directory import metrics_row, open_run_directory
from workers.runs.records import Evaluation, Event, Faults, Races, Staleness, Summary
from workers.runs.telemetry import COLUMNS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "metrics.md").read_text()
CODE = re.compile(r"`([^`]+)`")
SEPARATOR = re.compile(r"\|[-|]+\|")


def tables(section: str) -> list[list[str]]:
    """The names in the first column of each table of a section, in order."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert blocks
    assert all(SEPARATOR.fullmatch(block[1]) for block in blocks), "a table was cut by an empty line"
    names = [[CODE.findall(line.split("|")[1]) for line in block[2:]] for block in blocks]
    assert all(len(found) == 1 for table in names for found in table), "one name per row"
    return [[found[0] for found in table] for table in names]


def fields(owner: type) -> list[str]:
    return [field.name for field in dataclasses.fields(owner)]  # type: ignore[arg-type]


def config_keys(folder: Path) -> Iterable[str]:
    directory = open_run_directory(folder / "run")
    directory.write_config(Config(), describe(Config().env).description())
    directory.close()
    return json.loads((folder / "run" / "config.json").read_text())


def staleness_columns(folder: Path) -> Iterable[str]:
    directory = open_run_directory(folder / "run")
    directory.write_summary(sample_summary(), [1])
    directory.close()
    return (folder / "run" / "staleness.csv").read_text().splitlines()[0].split(",")


def evaluate_keys(folder: Path) -> Iterable[str]:
    torch.manual_seed(0)
    environment = describe(Config().env)
    facts = {"env_id": environment.env_id, "max_episode_steps": 5, "updates": 0}
    path = save_checkpoint(folder, "best", build(Config(), environment), facts)
    return evaluate_checkpoint(str(path), episodes=1, seed=0)


@pytest.mark.parametrize(
    ("section", "table", "names"),
    [
        ("The board", 0, lambda _: ROW.names),
        ("metrics.csv", 0, lambda _: metrics_row(sample_status())),
        ("evaluations.csv", 0, lambda _: fields(Evaluation)),
        ("events.jsonl", 0, lambda _: fields(Event)),
        ("summary.json", 0, lambda _: fields(Summary)),
        ("summary.json", 1, lambda _: fields(Staleness)),
        ("summary.json", 2, lambda _: fields(Races)),
        ("summary.json", 3, lambda _: fields(Faults)),
        ("staleness.csv", 0, staleness_columns),
        ("updates.csv", 0, lambda _: COLUMNS),
        ("config.json", 0, config_keys),
        ("The evaluate command", 0, evaluate_keys),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_page_and_the_code_name_the_same_things_in_the_same_order(
    section: str, table: int, names: Callable[[Path], Iterable[str]], tmp_path: Path
) -> None:
    assert tables(section)[table] == list(names(tmp_path))


def test_every_kind_of_event_is_one_that_the_code_can_make() -> None:
    makers = [path for path in (ROOT / "workers").rglob("*.py") if path.name != "panels.py"]
    sources = "".join(path.read_text() for path in makers)
    kinds = tables("events.jsonl")[1]
    made = set(re.findall(r"\.event\(\s*\"([\w-]+)\"", sources))
    assert made <= set(kinds)
    assert [kind for kind in kinds if f'"{kind}"' not in sources] == []


def test_every_label_of_the_page_stands_on_the_screen() -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(render(faulty_status(), 200, 60))
    console.print(Frame(summary_lines(dataclasses.replace(sample_summary(), faults=FAULTS), "runs/one")))
    console.print(plain_line(faulty_status()), soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    screen = console.file.getvalue()
    labels = [label for table in tables("On screen") for label in table]
    assert labels
    assert [label for label in labels if label not in screen] == []


def test_functions_of_the_telemetry_that_the_page_names_exist() -> None:
    telemetry = (ROOT / "workers" / "runs" / "telemetry.py").read_text()
    for name in re.findall(r"`Telemetry\.(\w+)`", PAGE):
        assert f"def {name}(" in telemetry, name
