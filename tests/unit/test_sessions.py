"""The sessions of a recurrent policy that is served: kept, dropped when idle, and bounded."""

from typing import Any

import numpy as np
import pytest

from workers.serving import sessions as module
from workers.serving.requests import RequestError
from workers.serving.sessions import IDLE_SECONDS, Sessions

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
    first, second = (sessions.keep(None, MODEL, STATE) for _ in range(2))
    assert first != second
    clock.now = IDLE_SECONDS - 1
    sessions.keep(first, MODEL, STATE + 1)
    clock.now += 2
    np.testing.assert_array_equal(sessions.state(first, MODEL, 2), STATE + 1)  # type: ignore[arg-type]
    assert refusal(sessions, second) == 410
    assert len(sessions) == 1
    assert refusal(sessions, first, batch=3) == 422


def test_another_model_does_not_go_on_from_a_state() -> None:
    sessions = Sessions()
    assert refusal(sessions, sessions.keep(None, MODEL, STATE), model=object()) == 410


@pytest.mark.parametrize(("limit", "value"), [("MOST", 3), ("MOST_BYTES", 3 * STATE.nbytes)])
def test_the_sessions_used_longest_ago_make_room(limit: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, limit, value)
    sessions = Sessions()
    names = [sessions.keep(None, MODEL, STATE) for _ in range(3)]
    sessions.keep(names[0], MODEL, STATE)
    newest = sessions.keep(None, MODEL, STATE)
    assert refusal(sessions, names[1]) == 410
    for name in (names[0], names[2], newest):
        assert sessions.state(name, MODEL, 2) is not None
    assert len(sessions) == 3
