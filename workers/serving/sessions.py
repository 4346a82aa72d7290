"""Sessions: the episodes of a recurrent policy that is served, whose states stay with the server between requests."""

import secrets
import threading
import time
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.serving.model import Model
from workers.serving.requests import SESSION, RequestError

MOST_BYTES = 2**28  # of all states together; beyond, those that were asked longest ago are dropped
MOST = 10_000  # sessions
IDLE_SECONDS = 600.0  # after which a session is dropped
SESSION_SCHEMA = {
    "type": "string",
    "description": "in an answer: names the episodes that it belongs to; in a request: those that go on; left out: "
    "they begin",
}


def new_name() -> str:
    """One that nobody guesses."""
    return secrets.token_urlsafe(16)


class _Session(NamedTuple):
    model: Model  # which has made the state; another one cannot go on from it
    state: NDArray[np.float32]  # [B, S]
    used: float  # seconds of the monotonic clock


class Sessions:
    """States by the random names that clients have of them, those used last at the end. Any thread may ask."""

    def __init__(self, clock: Any = time.monotonic):
        self._clock, self._lock, self._bytes = clock, threading.Lock(), 0
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    def __len__(self) -> int:
        with self._lock:
            self._drop_idle()
            return len(self._sessions)

    def state(self, name: str | None, model: Model, batch: int) -> NDArray[np.float32] | None:
        """The state [B, S] of a session, None where it begins; a RequestError where it has ended or is of another B."""
        if name is None:
            return None
        with self._lock:
            self._drop_idle()
            session = self._sessions.get(name)
        if session is None or session.model is not model:
            raise RequestError(410, f"{SESSION}: unknown, or ended after {IDLE_SECONDS:g} idle seconds; leave it out")
        if len(session.state) != batch:
            raise RequestError(422, f"{SESSION}: is of {len(session.state)} observations, got {batch}")
        return session.state

    def keep(self, name: str, model: Model, state: NDArray[np.float32]) -> None:
        """Keep a session's next state."""
        with self._lock:
            self._drop(name)
            self._sessions[name] = _Session(model, state, self._clock())
            self._bytes += state.nbytes
            self._drop_idle()
            while len(self._sessions) > MOST or self._bytes > MOST_BYTES:
                self._drop(next(iter(self._sessions)))

    def _drop_idle(self) -> None:
        oldest = self._clock() - IDLE_SECONDS
        while self._sessions and next(iter(self._sessions.values())).used < oldest:
            self._drop(next(iter(self._sessions)))

    def _drop(self, name: str) -> None:
        if (session := self._sessions.pop(name, None)) is not None:
            self._bytes -= session.state.nbytes
