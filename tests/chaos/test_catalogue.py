"""The program that injects every fault; the long counts are its user's to run."""

import importlib
import inspect

import pytest

from benchmarks.results import Record
from tests.chaos.__main__ import BEGIN, END, PAGE, current, main, markdown, outstanding, total
from tests.chaos.catalogue import FAULTS, Fault


def test_every_fault_has_a_function_that_takes_its_count() -> None:
    for name, fault in FAULTS.items():
        function = getattr(importlib.import_module(f"tests.chaos.{fault.module}"), fault.function)
        first, *others = inspect.signature(function).parameters.values()
        assert (first.name in ("count", "seconds")) == (fault.count is not None), name
        for other in others:
            assert other.name in ("folder", "seed", "first") or other.default is not inspect.Parameter.empty, name


def test_survived_faults_end_with_0_and_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bad-configurations", "--scale", "0.01"]) == 0
    assert "bad-configurations: 5 tried, 5 fired, 5 survived, 0 lost" in capsys.readouterr().out


def test_a_fault_that_cannot_be_injected_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(FAULTS, "none", Fault("nowhere", "nothing", "no fault", "never", 0))
    assert main(["none", "--scale", "0.5"]) == 1
    assert "0 fired, 0 survived, 1 lost" in capsys.readouterr().out


def test_the_page_has_room_for_the_newest_table() -> None:
    before, after = PAGE.read_text().split(BEGIN)[1].split(END)
    assert before.strip() in ("", markdown())
    assert END not in after


def test_batches_make_up_the_count() -> None:
    assert Fault("", "", "", "", 0, 120, batch=50).batches(1) == [50, 50, 20]
    assert Fault("", "", "", "", 0, 120, batch=50).batches(0.001) == [1]
    assert Fault("", "", "", "", 0, 600).batches(0.5) == [300]
    assert Fault("", "", "", "", 0).batches(0.5) == [None]


def record(batch: int, lost: int = 0, program: str = "new", **facts: float) -> Record:
    values = {
        "tried": 50,
        "fired": 50,
        "survived": 50 - lost,
        "lost": lost,
        "seconds": 9,
        "facts": facts,
        "detail": "a loss" if lost else "",
    }
    return Record("chaos", {"fault": "chains", "batch": batch}, values, {"program": program}, "", "")


def test_batches_that_an_interruption_has_left_are_injected_and_a_whole_series_is_repeated() -> None:
    assert outstanding(3, []) == [0, 1, 2]
    assert outstanding(3, [record(0), record(1)]) == [2]
    assert outstanding(3, [record(0), record(1), record(2)]) == [0, 1, 2]
    assert outstanding(3, [record(0), record(1), record(2), record(0)]) == [1, 2]


def test_the_table_adds_the_newest_of_each_batch_under_one_set_of_conditions() -> None:
    old, repeated = record(2, lost=5, program="old"), record(0, lost=9)
    newest = current([old, repeated, record(0, hits=3, worst=0.5), record(1, lost=1, hits=4, worst=0.2)])
    values = total(newest).values
    assert (values["tried"], values["survived"], values["lost"]) == (100, 99, 1)
    assert values["detail"] == "a loss" and values["facts"] == {"hits": 7, "worst": 0.5}
