"""Tables on disk: complete to the last row, gone on with, cut back to a checkpoint."""

from pathlib import Path

import pytest

from workers.runs.directory import open_table
from workers.runs.resume import _whole, cut_table

WHOLE = "step,mean\n1,0.5\n2,1.5\n3,2.5\n"


def every_row(index: int, row: dict[str, str]) -> bool:
    return True


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table.csv"


def test_a_row_is_on_disk_as_soon_as_it_is_written(path: Path) -> None:
    table = open_table(path, ["step", "mean"])
    table.write({"step": 1, "mean": 0.5})
    assert path.read_text() == "step,mean\n1,0.5\n"
    table.close()


def test_a_table_that_exists_is_gone_on_with(path: Path) -> None:
    for step in (1, 2):
        table = open_table(path, ["step", "mean"])
        table.write({"step": step, "mean": 0.5})
        table.close()
    assert path.read_text() == "step,mean\n1,0.5\n2,0.5\n"


def test_rows_from_the_first_unwanted_one_on_are_cut(path: Path) -> None:
    path.write_text(WHOLE)
    rows = cut_table(path, lambda index, row: row["step"] != "2")
    assert rows == [{"step": "1", "mean": "0.5"}]
    assert path.read_text() == "step,mean\n1,0.5\n"


def test_rows_are_cut_by_their_index(path: Path) -> None:
    path.write_text(WHOLE)
    assert [row["step"] for row in cut_table(path, lambda index, row: index < 2)] == ["1", "2"]
    assert cut_table(path, lambda index, row: False) == []
    assert path.read_text() == "step,mean\n"


def test_a_table_of_which_every_row_is_wanted_is_left_alone(path: Path) -> None:
    path.write_text(WHOLE)
    before = path.stat()
    assert len(cut_table(path, every_row)) == 3
    assert (path.stat().st_ino, path.read_text()) == (before.st_ino, WHOLE)


@pytest.mark.parametrize("half", ["4", "4,", "4,3.5"])
def test_a_last_row_that_was_not_written_whole_is_dropped(path: Path, half: str) -> None:
    path.write_text(WHOLE + half)
    assert [row["step"] for row in cut_table(path, every_row)] == ["1", "2", "3"]
    table = open_table(path, ["step", "mean"])
    table.write({"step": 4, "mean": 9.5})
    table.close()
    assert path.read_text() == WHOLE + "4,9.5\n"


@pytest.mark.parametrize("content", ["", "step,me", "step,mean"])
def test_a_table_without_a_whole_header_begins_anew(path: Path, content: str) -> None:
    path.write_text(content)
    assert cut_table(path, every_row) == []
    open_table(path, ["step", "mean"]).close()
    assert path.read_text() == "step,mean\n"


def test_a_row_with_too_few_values_ends_the_table(path: Path) -> None:
    path.write_text("step,mean\n1,0.5\n2\n3,2.5\n")
    assert [row["step"] for row in cut_table(path, every_row)] == ["1"]
    assert path.read_text() == "step,mean\n1,0.5\n"


def test_a_table_that_is_not_there_has_no_rows_and_is_not_made(path: Path) -> None:
    assert cut_table(path, every_row) == []
    assert not path.exists()


SAVED_BY_A_SPREADSHEET = {
    "with carriage returns": b"step,mean\r\n1,0.5\r\n2,1.5\r\n",
    "with a byte order mark": b"\xef\xbb\xbfstep,mean\n1,0.5\n2,1.5\n",
    "quoted": b'"step","mean"\n"1","0.5"\n"2","1.5"\n',
    "German": b"step;mean\r\n1;0,5\r\n2;1,5\r\n",
    "with tabs": b"step\tmean\n1\t0.5\n2\t1.5\n",
    "with blank lines": b"step,mean\n1,0.5\n2,1.5\n\n\n",
    "with empty rows": b"step,mean\n1,0.5\n2,1.5\n,\n,\n",
    "without a last line break": b'"step","mean"\r\n1,0.5\r\n2,1.5',
}


@pytest.mark.parametrize("content", SAVED_BY_A_SPREADSHEET.values(), ids=SAVED_BY_A_SPREADSHEET)
def test_a_table_that_a_spreadsheet_has_saved_is_read_and_becomes_ours_again(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert cut_table(path, every_row) == [{"step": "1", "mean": "0.5"}, {"step": "2", "mean": "1.5"}]
    assert path.read_bytes() == b"step,mean\n1,0.5\n2,1.5\n"


@pytest.mark.parametrize(("text", "number"), [("1000", 1000), ("1000.0", 1000), ("1e+03", 1000), ("-7", -7)])
def test_whole_numbers_are_read_as_a_spreadsheet_writes_them(text: str, number: int) -> None:
    assert _whole(text) == number
    assert _whole("9223372036854775807") == 2**63 - 1


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"steps,mean\n1,0.5\n", r"table\.csv, row 1: there is no column 'step'"),
        (b"step,mean\n1,0.5\nmany,1\n", r"table\.csv, row 2: invalid literal for int\(\)"),
        ("step,mean\n1,0.5\n".encode("utf-16"), r"table\.csv: .*decode"),
    ],
)
def test_a_table_that_cannot_be_understood_is_named_with_its_row(path: Path, content: bytes, complaint: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        cut_table(path, lambda index, row: int(row["step"]) < 10)
    assert path.read_bytes() == content
