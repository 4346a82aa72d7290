"""The sessions of a recurrent policy that is served: kept, dropped when idle, and bounded."""

from typing import Any

import numpy as np
import pytest

from workers.serving import sessions as module
from workers.serving.requests import RequestError
from workers.serving.sessions import IDLE_SECONDS, Sessions, new_name

MODEL: Any = object()
STATE = np.zeros((2, 3), np.float32)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def refusal(sessions: Sessions, name: str, model: Any = MODEL, batch: int = 2) -> int:
    with pytest.raises(RequestError) as error:
        sessions.state(name, model, batch)
    return error.value.status


def test_a_session_goes_on_until_it_has_been_idle() -> None:
    clock = Clock()
    sessions = Sessions(clock)
    assert sessions.state(None, MODEL, 2) is None
    first, second = new_name(), new_name()
    for name in (first, second):
        sessions.keep(name, MODEL, STATE)
    clock.now = IDLE_SECONDS - 1
    sessions.keep(first, MODEL, STATE + 1)
    clock.now += 2
    np.testing.assert_array_equal(sessions.state(first, MODEL, 2), STATE + 1)  # type: ignore[arg-type]
    assert len(sessions) == 1
    assert refusal(sessions, second) == 410
    assert refusal(sessions, first, batch=3) == 422


def test_another_model_does_not_go_on_from_a_state() -> None:
    sessions = Sessions()
    sessions.keep("one", MODEL, STATE)
    assert refusal(sessions, "one", model=object()) == 410


@pytest.mark.parametrize(("limit", "value"), [("MOST", 3), ("MOST_BYTES", 3 * STATE.nbytes)])
def test_the_sessions_used_longest_ago_make_room(limit: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, limit, value)
    sessions = Sessions()
    for name in ("first", "second", "third", "first", "newest"):
        sessions.keep(name, MODEL, STATE)
    assert refusal(sessions, "second") == 410
    for name in ("first", "third", "newest"):
        assert sessions.state(name, MODEL, 2) is not None
    assert len(sessions) == 3
