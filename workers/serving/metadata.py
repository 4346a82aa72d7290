"""The names of an exported policy (ONNX), and its metadata: one JSON object, read strictly."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, get_args

from workers.runs.program import command

OBSERVATIONS = "observations"  # input, float32 [B, O]; any B
PROBABILITIES = "probabilities"  # output, float32 [B, A]
ACTIONS = "actions"  # output, int64 [B]: the most probable ones, counted as the environment counts them
VALUES = "values"  # output, float32 [B], in units of return; only where the critic was exported
KEY = "a3c"  # of the entry in the file's metadata
FORMAT = 2


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a consumer has to know of a model; None where there is none."""

    env_id: str
    observation_size: int  # O
    action_count: int  # A
    action_start: int  # the environment's number of its first action
    precision: str  # fp32 | int8
    critic: bool
    checkpoint_sha256: str  # of the weights
    updates: int | None
    env_steps: int | None
    max_episode_steps: int | None
    target_return: float | None
    seed: int  # of the export's check
    lowest: tuple[float, ...]  # of each component of the check's observations, [O]
    highest: tuple[float, ...]

    @property
    def task(self) -> str:
        """What clients rely on."""
        first, last = self.action_start, self.action_start + self.action_count - 1
        return f"{self.env_id} with {self.observation_size} numbers per observation and the actions {first} to {last}"

    def entries(self) -> dict[str, str]:
        """The file's metadata."""
        return {KEY: json.dumps({"format": FORMAT, **asdict(self)}, allow_nan=False)}


def read_metadata(entries: Mapping[str, str]) -> Metadata:
    """Read the metadata of a file; those of format 1 too.

    Raises:
        ValueError: they are of unknown origin or another format, or a field is missing or malformed.
    """
    if KEY in entries:
        found = _parsed(entries[KEY])
        if type(found) is not dict:
            raise ValueError(f"its metadata are damaged: {KEY} is {entries[KEY][:40]!r}")
        if (version := found.get("format")) != FORMAT:
            raise ValueError(f"of format {str(version)[:20]!r}, but {FORMAT} and 1 are read here; export it again")
    elif entries.get(f"{KEY}.format") == "1":
        found = _format_1({key.removeprefix(f"{KEY}."): text for key, text in entries.items()})
    else:
        raise ValueError(f"of unknown origin; models that can be served are made by: {command('export', 'RUN_DIR')}")
    values: dict[str, Any] = {}
    for field in fields(Metadata):
        if field.name not in found:
            raise ValueError(f"its metadata lack {field.name}")
        value = found[field.name]
        if not _is_of_type(value, field.type):
            raise ValueError(f"its metadata are damaged: {field.name} is {str(value)[:40]!r}")
        values[field.name] = tuple(value) if type(value) is list else value
    if not len(values["lowest"]) == len(values["highest"]) == values["observation_size"]:
        raise ValueError("its metadata are damaged: lowest and highest are not of observation_size numbers")
    return Metadata(**values)


def _format_1(texts: Mapping[str, str]) -> dict[str, Any]:
    """The fields of format 1, which had an entry of text for each, empty where there is none."""
    types = {field.name: field.type for field in fields(Metadata)}
    found = {name: text if types.get(name) is str else _parsed(text) for name, text in texts.items()}
    found["critic"] = {"yes": True, "no": False}.get(texts.get("critic", ""))
    if type(ranges := found.get("observations")) is list and len(ranges) == 2:
        found["lowest"], found["highest"] = ranges
    return found


def _parsed(text: str) -> Any:
    """The value of JSON; other text as it is, which no field can be, and None where there is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text or None


def _is_of_type(value: Any, kind: Any) -> bool:
    """Whether a value of JSON is of a field's type."""
    if kind == tuple[float, ...]:
        return type(value) is list and all(_is_of_type(number, float) for number in value)
    if type(value) is str and not (value.isprintable() and 0 < len(value) <= 200):
        return False
    if type(value) in (int, float) and not abs(value) < 2**63:  # nor is NaN
        return False
    kinds = get_args(kind) or (kind,)  # of `int | None`
    return type(value) in kinds or (type(value) is int and float in kinds)
