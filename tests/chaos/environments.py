"""CartPole that fails on demand, for runs of the real program: --env tests.chaos.environments:Ordered-v0.

The command's own environment never fails, those of evaluations on order alone. Each tells what it has done in files of
the folder $FAULTS; what is to happen once is a file there, an order, which the process that is hit takes away.
"""

import ctypes
import multiprocessing
import os
import random
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import gymnasium
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

MODULE = "tests.chaos.environments"
STEP, RESET = "step", "reset"  # where an order can be carried out
MAKE, CLOSE = "make", "close"  # where an environment can fail too
SLOW_SECONDS = {MAKE: 4.0, RESET: 0.8, STEP: 0.01, CLOSE: 4.0}
CALLS_BETWEEN = 100  # two spoilt numbers of one process, so that they are of different rollouts of 48 steps
HUGE = 3e38  # a float32 still; what is computed from it is none
MEMORY = 2**26  # bytes that a process which runs out of memory may still have
Step = tuple[Any, Any, bool, bool, dict[str, Any]]


class Watched(CartPoleEnv):
    """CartPole whose processes tell that they run: each writes a line "name pid time" with its first step."""

    folder = Path(os.environ.get("FAULTS", "."))

    def __init__(self) -> None:
        super().__init__()
        self._told = False
        self._process = multiprocessing.current_process().name  # worker-0, ..., monitor, or the command's own

    def step(self, action: Any) -> Step:
        if not self._told:
            self._told = True
            self.tell("steps", f"{self._process} {os.getpid()} {time.time()}")
        step: Step = super().step(action)  # type: ignore[no-untyped-call]
        return step

    def tell(self, file: str, line: str) -> None:
        """Append a line, whole whoever else appends one; nothing where nobody listens, as in a run that is resumed."""
        if "FAULTS" not in os.environ:
            return
        with open(self.folder / file, "ab", buffering=0) as output:
            output.write(f"{line}\n".encode())

    @property
    def is_worker(self) -> bool:
        return self._process.startswith("worker-")


class Ordered(Watched):
    """Carries out the orders that are given while it runs: the first process that sees one takes it."""

    def step(self, action: Any) -> Step:
        step = super().step(action)
        fault = self._order(STEP)
        return FAULTS[fault](step) if fault else step

    def reset(self, **options: Any) -> Any:
        if fault := self._order(RESET):
            FAULTS[fault](super().step(0))
        return super().reset(**options)

    def _order(self, place: str) -> str:
        """The fault that is ordered here, and now taken; '' for none."""
        order, taken = order_file(self.folder, self._process.split("-")[0], place), self.folder / f"taken.{os.getpid()}"
        try:
            os.rename(order, taken)  # which one process alone can do
        except FileNotFoundError:
            return ""
        fault = taken.read_text()
        self.tell("fired", f"{fault} {os.getpid()}")
        return fault


def order_file(folder: Path, role: str, place: str) -> Path:
    """The file in which the next fault of a worker, or of the monitor, is ordered for its next step or reset."""
    return folder / f"order.{role}.{place}"


def lose_licence(_: Step) -> NoReturn:
    raise RuntimeError("the simulator lost its licence")


def raise_unpicklable(_: Step) -> NoReturn:
    class SimulatorError(Exception):  # local, and holding a lock: nobody else can be sent it
        pass

    raise SimulatorError("the scene fell apart", threading.Lock())


def call_sys_exit(_: Step) -> NoReturn:
    sys.exit(0)


def leave_without_a_word(_: Step) -> NoReturn:
    os._exit(0)


def segfault(step: Step) -> Step:
    ctypes.string_at(0)
    return step


def hang_in_python(_: Step) -> NoReturn:
    while True:
        pass


def hang_in_c(_: Step) -> NoReturn:
    library = ctypes.PyDLL(None)  # whose functions keep the interpreter's lock
    while True:  # a signal ends a pause
        library.pause()


def run_out_of_memory(_: Step) -> NoReturn:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    leak = []
    while True:
        leak.append(bytearray(2**20))


def change_shape(step: Step) -> Step:
    return (np.zeros(5, np.float32), *step[1:])


def change_dtype(step: Step) -> Step:
    return (np.array(["a", "b", "c", "d"]), *step[1:])


def print_a_line(step: Step) -> Step:
    print("a line of the simulator's own")
    return step


def observe_nan(step: Step) -> Step:
    return (np.full(4, np.nan, np.float32), *step[1:])


def pay_infinity(step: Step) -> Step:
    return (step[0], float("inf"), *step[2:])


def pay_much(step: Step) -> Step:
    return (step[0], 1e30, *step[2:])


def overwrite_parameters(step: Step) -> Step:
    """A stray write into shared memory, as of a library that has lost its way."""
    import gc

    from shared.store import SharedStore

    gc.unfreeze()  # else what a process has been given is hidden
    store = next(thing for thing in gc.get_objects() if isinstance(thing, SharedStore))
    store.parameters.fill_(float("nan"))
    return step


FAULTS: dict[str, Callable[[Step], Step]] = {
    function.__name__: function
    for function in (
        lose_licence,
        raise_unpicklable,
        call_sys_exit,
        leave_without_a_word,
        segfault,
        hang_in_python,
        hang_in_c,
        run_out_of_memory,
        change_shape,
        change_dtype,
        print_a_line,
        observe_nan,
        pay_infinity,
        pay_much,
        overwrite_parameters,
    )
}


class Spoilt(Watched):
    """Spoils numbers at random steps, $SPOILT in all: an observation, a reward or, by a huge reward, a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self._rng, self._calls, self._count = random.Random(os.getpid()), 0, int(os.environ.get("SPOILT", "0"))

    def reset(self, **options: Any) -> Any:
        self._calls += 1
        return super().reset(**options)

    def step(self, action: Any) -> Step:
        step = super().step(action)
        self._calls += 1
        if not self.is_worker or self._calls < CALLS_BETWEEN or self._rng.random() > 0.01 or self._is_enough():
            return step
        self._calls = 0
        kind, spoil = self._rng.choice(SPOILS)
        self.tell("spoilt", kind)
        return spoil(step)

    def _is_enough(self) -> bool:
        spoilt = self.folder / "spoilt"
        return spoilt.exists() and len(spoilt.read_text().splitlines()) >= self._count


SPOILS: list[tuple[str, Callable[[Step], Step]]] = [
    ("observations", observe_nan),
    ("observations", lambda step: (step[0] * np.float32(-np.inf), *step[1:])),
    ("rewards", lambda step: (step[0], float("nan"), *step[2:])),
    ("rewards", pay_infinity),
    ("gradients", lambda step: (step[0], HUGE, *step[2:])),
]


class Broken(Watched):
    """Fails for ever, in each of the workers and at the same place: $BROKEN is the fault's name and the place's."""

    def __init__(self) -> None:
        super().__init__()
        fault, self._place = os.environ.get("BROKEN", " ").split(" ")
        self._fault = FAULTS[fault] if self.is_worker else None

    def step(self, action: Any) -> Step:
        step = super().step(action)
        return self._fault(step) if self._fault and self._place == STEP else step

    def reset(self, **options: Any) -> Any:
        if self._fault and self._place == RESET:
            self._fault(super().step(0))
        return super().reset(**options)


class Faulty(Watched):
    """Has a fault at one place of its use: $FAULTY is "ROLE PLACE KIND", such as "monitor reset raise".

    The role is that of the processes it happens in, the monitor or everybody; the command's own never has any.
    """

    def __init__(self) -> None:
        super().__init__()
        role, self._place, self._kind = os.environ.get("FAULTY", "nobody nowhere none").split(" ")
        self._has_fault = self._process != "MainProcess" and role in ("everybody", self._process)
        self._fail(MAKE)

    def reset(self, **options: Any) -> Any:
        self._fail(RESET)
        return super().reset(**options)

    def step(self, action: Any) -> Step:
        step = super().step(action)
        return (step[0], float("nan"), *step[2:]) if self._fail(STEP) else step

    def close(self) -> None:
        self._fail(CLOSE)
        super().close()

    def _fail(self, place: str) -> bool:
        """Let what is to happen here happen; whether the reward is to be none."""
        if not self._has_fault or place != self._place:
            return False
        self.tell("fired", f"{self._process} {os.getpid()}")
        if self._kind == "slow":
            time.sleep(SLOW_SECONDS[place])
        elif self._kind == "hang":
            while True:
                time.sleep(1)
        elif self._kind == "die":
            os._exit(1)
        elif self._kind == "float":
            raise FloatingPointError("the simulator has left its numbers")
        elif self._kind == "raise":
            raise RuntimeError("the simulator lost its licence")
        return self._kind == "nan"


class Endless(CartPoleEnv):
    """An episode without an end."""

    def step(self, action: Any) -> Step:
        observation, reward, _, truncated, info = super().step(action)  # type: ignore[no-untyped-call]
        return (np.clip(observation, -1, 1), reward, False, truncated, info)


for name, environment, limit in (
    ("Watched-v0", Watched, 500),
    ("Ordered-v0", Ordered, 500),
    ("Spoilt-v0", Spoilt, 500),
    ("Broken-v0", Broken, 500),
    ("Faulty-v0", Faulty, 500),
    ("Endless-v0", Endless, None),
):
    entry_point = f"{MODULE}:{environment.__name__}"
    gymnasium.register(name, entry_point, reward_threshold=475, max_episode_steps=limit, disable_env_checker=True)
