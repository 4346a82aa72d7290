"""The program that injects every fault; the long counts are its user's to run."""

import importlib
import inspect

import pytest

from tests.chaos.__main__ import BEGIN, END, PAGE, main, markdown
from tests.chaos.catalogue import FAULTS, Fault


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_every_fault_has_a_function_that_takes_its_count(fault: Fault) -> None:
    function = getattr(importlib.import_module(f"tests.chaos.{fault.module}"), fault.function)
    wanted = list(inspect.signature(function).parameters)
    assert (wanted[0] in ("count", "seconds")) == (fault.count is not None)
    defaults = [parameter.default for parameter in inspect.signature(function).parameters.values()]
    given = {wanted[0], "folder", "seed"}
    assert all(name in given or value is not inspect.Parameter.empty
               for name, value in zip(wanted, defaults, strict=True))  # fmt: skip


def test_survived_faults_end_with_0_and_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bad-configurations", "--scale", "0.01"]) == 0
    assert "bad-configurations: 5 tried, 5 fired, 5 survived, 0 lost" in capsys.readouterr().out


def test_a_fault_that_cannot_be_injected_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(FAULTS, "none", Fault("nowhere", "nothing", "no fault", "never"))
    assert main(["none", "--scale", "0.5"]) == 1
    assert "0 fired, 0 survived, 1 lost" in capsys.readouterr().out


def test_the_page_has_room_for_the_newest_table() -> None:
    before, after = PAGE.read_text().split(BEGIN)[1].split(END)
    assert before.strip() in ("", markdown())
    assert END not in after
