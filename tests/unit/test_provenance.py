"""What a run records of the program that makes it."""

import os
import subprocess
from pathlib import Path

import pytest

from workers.runs import program as this_program
from workers.runs.program import provenance

IDENTITY = {f"GIT_{who}_{what}": "nobody@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def git(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, **IDENTITY}
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of a program with one module and one page."""
    root = tmp_path / "program"
    for folder in ("a3c", "shared", "workers"):
        (root / folder).mkdir(parents=True)
    for name in ("a3c/losses.py", "run_a3c.py", "README.md"):
        (root / name).write_text("as committed\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    monkeypatch.setattr(this_program, "ROOT", root)
    monkeypatch.setattr(this_program, "provenance", provenance.__wrapped__)
    return root


def of_program() -> tuple[str | None, str | None]:
    facts = this_program.provenance()
    return facts["git_commit"], facts["source_sha256"]


def test_a_clean_checkout_is_its_commit(program: Path) -> None:
    (program / "README.md").write_text("another page")
    (program / "notes.txt").write_text("not the program's")
    assert of_program()[0] == git(program, "rev-parse", "HEAD")


def test_a_checkout_whose_program_differs_is_dirty_and_two_such_are_two_programs(program: Path) -> None:
    clean, before = of_program()
    sources = {before}
    for change in ("one change", "another change"):
        (program / "a3c" / "losses.py").write_text(change)
        commit, source = of_program()
        assert commit == f"{clean}-dirty"
        sources.add(source)
    assert len(sources) == 3


def test_within_a_git_hook_it_is_still_the_programs_own_checkout(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q", "elsewhere")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere" / ".git"))
    assert (of_program()[0] or "").count("-") == 0 < len(of_program()[0] or "")


def test_an_installed_program_has_no_commit_of_the_repository_around_it(program: Path, tmp_path: Path) -> None:
    (program / ".git").rename(tmp_path / ".git")
    commit, source = of_program()
    assert commit is None
    assert source is not None and len(source) == 64


def test_without_git_there_is_no_commit(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(program))
    assert of_program()[0] is None
