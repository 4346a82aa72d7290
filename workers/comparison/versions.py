"""Which version of the program, of its packages and of the machine made which runs of a study."""

from collections.abc import Iterable, Sequence
from typing import Any

from a3c.config import ConfigError
from workers.comparison.results import Run, Version

NAMED = 3  # runs that a message names before it counts the others
SHORT = 12  # digits of a commit


def versions_of(runs: Iterable[Run]) -> tuple[Version, ...]:
    """The versions that made the runs, in the order of their first ones."""
    found: list[tuple[dict[str, Any], list[str]]] = []
    for run in runs:
        paths = next((paths for facts, paths in found if facts == run.made_with), None)
        if paths is None:
            found.append((run.made_with, [run.path]))
        else:
            paths.append(run.path)
    names = _names([facts for facts, _ in found])
    return tuple(Version(name, facts, tuple(paths)) for name, (facts, paths) in zip(names, found, strict=True))


def check_one_version(runs: Sequence[Run], now: dict[str, Any], missing: bool, where: object) -> None:
    """Refuse to pool runs of several versions.

    Args:
        now: what this program makes runs with.
        missing: whether it has runs to make.
        where: the study's directory.
    Raises:
        ConfigError: there are several; names them, some of their runs, and what to do.
    """
    versions = versions_of(runs)
    if not missing and len(versions) < 2:
        return
    here = now if missing or now in [version.facts for version in versions] else versions[0].facts
    told = [
        f"{_runs_words(version.runs)} with {_difference(version.facts, here)}"
        for version in versions
        if version.facts != here
    ]
    if told:
        raise ConfigError(
            f"study_dir: '{where}' holds runs of another version of the program: {'; '.join(told)}; "
            "choose another directory (--study-dir), or keep them with --any-version: the report then "
            "tells which runs are whose"
        )


def machine_of(versions: Sequence[Version]) -> dict[str, Any]:
    """The facts that hold for all runs; of those that differ, every value."""
    names = dict.fromkeys(name for version in versions for name in version.facts)
    return {name: _common([version.facts.get(name) for version in versions]) for name in names}


def version_words(version: Version) -> str:
    """A version and its runs."""
    return f"{version.name} made {_runs_words(version.runs)}"


def _common(values: Sequence[Any]) -> Any:
    distinct = [value for place, value in enumerate(values) if value not in values[:place]]
    return distinct[0] if len(distinct) == 1 else " / ".join(map(str, distinct))


def _names(every: Sequence[dict[str, Any]]) -> list[str]:
    """The commit, and as much more as tells each from the others."""
    commits = [_commit(facts) for facts in every]
    if len(set(commits)) == len(commits):
        return commits
    differing = [
        name
        for name in dict.fromkeys(name for facts in every for name in facts)
        if name != "git_commit" and any(facts.get(name) != every[0].get(name) for facts in every)
    ]
    return [
        ", ".join([commit, *(f"{name} {_value(facts.get(name))}" for name in differing)])
        for commit, facts in zip(commits, every, strict=True)
    ]


def _difference(then: dict[str, Any], now: dict[str, Any]) -> str:
    """What of two versions differs; the source is not told where the commits differ, which says the same."""
    names = [name for name in dict.fromkeys([*now, *then]) if then.get(name) != now.get(name)]
    if "git_commit" in names and "source_sha256" in names:
        names.remove("source_sha256")
    return ", ".join(f"{name} {_value(then.get(name))}, not {_value(now.get(name))}" for name in names)


def _commit(facts: dict[str, Any]) -> str:
    return (
        _value(facts.get("git_commit")) if facts.get("git_commit") else f"source {_value(facts.get('source_sha256'))}"
    )


def _value(value: Any) -> str:
    """A hash by its first digits, "-dirty" kept; anything else as it is."""
    text = "unknown" if value is None else str(value)
    head, mark, _ = text.partition("-dirty")
    return f"{head[:SHORT]}{mark}" if len(head) in (40, 64) and head.isalnum() else text


def _runs_words(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return f"{', '.join(paths[:NAMED])}{more}"
