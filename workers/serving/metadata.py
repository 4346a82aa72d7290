"""What an exported model says of itself in its metadata, read by the letter."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from a3c.onnx_names import FORMAT, PREFIX
from workers.runs.program import command

_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Facts:
    """A model's metadata; None where the export had nothing to say."""

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
    value_mean: float | None  # of the critic's values over the observations of the export's check
    value_std: float | None
    lowest: tuple[float, ...]  # of each component of those observations, [O]
    highest: tuple[float, ...]

    @property
    def task(self) -> str:
        """What its clients rely on."""
        first, last = self.action_start, self.action_start + self.action_count - 1
        return f"{self.env_id} with {self.observation_size} numbers per observation and the actions {first} to {last}"


def read_facts(metadata: Mapping[str, str]) -> Facts:
    """The facts in a model's metadata.

    Raises:
        ValueError: it is of unknown origin or another format, or an entry is missing or malformed.
    """
    written = metadata.get(f"{PREFIX}format")
    if written is None:
        raise ValueError(f"of unknown origin; models that can be served are made by: {command('export', 'RUN_DIR')}")
    if written != FORMAT:
        raise ValueError(f"of format {written[:20]!r}, but {FORMAT} is read here; export it again")
    size = _entry(metadata, "observation_size", _positive)
    lowest, highest = _entry(metadata, "observations", lambda text: _range(text, size))
    return Facts(
        env_id=_entry(metadata, "env_id", _word),
        observation_size=size,
        action_count=_entry(metadata, "action_count", _positive),
        action_start=_entry(metadata, "action_start", _whole),
        precision=_entry(metadata, "precision", _one_of("fp32", "int8")),
        critic=_entry(metadata, "critic", _one_of("yes", "no")) == "yes",
        checkpoint_sha256=_entry(metadata, "checkpoint_sha256", _digest),
        updates=_entry(metadata, "updates", _maybe(_whole)),
        env_steps=_entry(metadata, "env_steps", _maybe(_whole)),
        max_episode_steps=_entry(metadata, "max_episode_steps", _maybe(_positive)),
        target_return=_entry(metadata, "target_return", _maybe(_finite)),
        value_mean=_entry(metadata, "value_mean", _maybe(_finite)),
        value_std=_entry(metadata, "value_std", _maybe(_finite)),
        lowest=lowest,
        highest=highest,
    )


def _entry(metadata: Mapping[str, str], name: str, read: Callable[[str], T]) -> T:
    text = metadata.get(PREFIX + name)
    if text is None:
        raise ValueError(f"its metadata lack {PREFIX}{name}")
    try:
        return read(text)
    except (ValueError, TypeError, RecursionError):
        raise ValueError(f"its metadata are damaged: {PREFIX}{name} is {text[:40]!r}") from None


def _word(text: str) -> str:
    if not text or not text.isprintable() or len(text) > 200:
        raise ValueError
    return text


def _digest(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError
    return text


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError
    return int(text)


def _positive(text: str) -> int:
    if (number := _whole(text)) < 1:
        raise ValueError
    return number


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError
    return number


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError
        return text

    return read


def _maybe(read: Callable[[str], T]) -> Callable[[str], T | None]:
    return lambda text: read(text) if text else None


def _range(text: str, size: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    lowest, highest = (tuple(map(float, side)) for side in json.loads(text))
    if not len(lowest) == len(highest) == size or not all(map(math.isfinite, lowest + highest)):
        raise ValueError
    return lowest, highest
