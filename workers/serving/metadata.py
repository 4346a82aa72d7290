"""The names of an exported policy (ONNX), and its metadata: one JSON object, read strictly."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from functools import cached_property
from typing import Any, get_args

from workers.runs.program import command
from workers.serving.interface import MOST_NUMBERS, Interface

OBSERVATIONS = "observations"  # input, float32 [B, *shape]; any B
PROBABILITIES = "probabilities"  # output, float32 [B, K]: the distribution, where it is nothing but probabilities
DISTRIBUTION = "distribution"  # the same, where it has means and standard deviations too
ACTIONS = "actions"  # output, int64 or float32, [B] or [B, N]: the most probable ones, in the environment's numbers
VALUES = "values"  # output, float32 [B], in units of return; only where the critic was exported
STATE = "state"  # input, float32 [B, S], zeros where an episode begins; of a recurrent policy
NEXT_STATE = "next_state"  # output, the same after the step
KEY = "a3c"  # of the entry in the file's metadata
FORMAT = 3


@dataclass(frozen=True)
class Metadata:
    """What a consumer has to know of a model; None where there is none."""

    env_id: str
    observation_space: dict[str, Any]  # as `a3c.spaces` writes it
    action_space: dict[str, Any]
    precision: str  # fp32 | int8
    critic: bool
    checkpoint_sha256: str  # of the weights
    updates: int | None
    env_steps: int | None
    max_episode_steps: int | None
    target_return: float | None
    seed: int  # of the export's check
    lowest: tuple[float, ...]  # of each number of the check's observations, flat, but for those of images
    highest: tuple[float, ...]
    state_size: int = 0  # S, how many numbers a recurrent policy remembers

    @property
    def task(self) -> str:
        """What clients rely on."""
        return f"{self.env_id}, {json.dumps(self.observation_space)} to {json.dumps(self.action_space)}"

    @cached_property
    def interface(self) -> Interface:
        """What it takes and gives; a ValueError where its spaces are damaged."""
        return Interface(self.observation_space, self.action_space)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Their names, in their order."""
        distribution = PROBABILITIES if self.interface.is_discrete else DISTRIBUTION
        return (distribution, ACTIONS, *([VALUES] * self.critic), *([NEXT_STATE] * self.is_recurrent))

    @property
    def inputs(self) -> tuple[str, ...]:
        return (OBSERVATIONS, *([STATE] * self.is_recurrent))

    @property
    def is_recurrent(self) -> bool:
        return self.state_size > 0

    def entries(self) -> dict[str, str]:
        """The file's metadata."""
        return {KEY: json.dumps({"format": FORMAT, **asdict(self)}, allow_nan=False)}


def read_metadata(entries: Mapping[str, str]) -> Metadata:
    """Read the metadata of a file; a ValueError where they are of another origin or format, or malformed."""
    if KEY not in entries and f"{KEY}.format" not in entries:
        raise ValueError(f"of unknown origin; models that can be served are made by: {command('export', 'RUN_DIR')}")
    try:
        found = json.loads(entries.get(KEY, '{"format": 1}'))
    except (ValueError, RecursionError):
        found = None
    if type(found) is not dict:
        raise ValueError(f"its metadata are damaged: {KEY} is {entries[KEY][:40]!r}")
    if (version := found.get("format")) != FORMAT:
        raise ValueError(f"of format {str(version)[:20]!r}, but {FORMAT} is read here; export it again")
    values: dict[str, Any] = {}
    for field in fields(Metadata):
        if field.name not in found and field.default is MISSING:
            raise ValueError(f"its metadata lack {field.name}")
        value = found.get(field.name, field.default)
        if not _is_of_type(value, field.type):
            raise ValueError(f"its metadata are damaged: {field.name} is {str(value)[:40]!r}")
        values[field.name] = tuple(value) if type(value) is list else value
    metadata = Metadata(**values)
    size = metadata.interface.flat_size
    if not 0 <= metadata.state_size <= MOST_NUMBERS:
        raise ValueError("its metadata are damaged: state_size is out of range")
    if not len(metadata.lowest) == len(metadata.highest) == size:
        raise ValueError("its metadata are damaged: lowest and highest are not of the observation's numbers")
    return metadata


def _is_of_type(value: Any, kind: Any) -> bool:
    """Whether a value of JSON is of a field's type."""
    if kind == tuple[float, ...]:
        return type(value) is list and all(_is_of_type(number, float) for number in value)
    if type(value) is str and not (value.isprintable() and 0 < len(value) <= 200):
        return False
    if type(value) in (int, float) and not abs(value) < 2**63:  # nor is NaN
        return False
    if kind == dict[str, Any]:
        return type(value) is dict
    kinds = get_args(kind) or (kind,)  # of `int | None`
    return type(value) in kinds or (type(value) is int and float in kinds)
