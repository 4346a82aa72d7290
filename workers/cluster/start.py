"""How a run comes to its gate: the process is started, and has joined the cluster before anything else starts."""

import functools
import os
import time
from multiprocessing.connection import Connection

from a3c.config import ConfigError
from workers.children import Children
from workers.cluster.roster import Roster
from workers.processes import entry
from workers.processes.child import Child, Patience
from workers.processes.signals import Signals
from workers.runs.evaluations import SharedRun
from workers.runs.log import RunLog

JOIN_SECONDS = 120.0
POLL_SECONDS = 0.02


def main(run: SharedRun, roster: Roster, address: str, modules: tuple[str, ...], messages: Connection) -> None:
    """Process target: join the cluster, say who is where, and exchange until all workers of other nodes have ended."""

    def work() -> None:
        # Whoever reaches Ray's ports runs code there: by default only who has the token. Read when Ray is imported.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        from workers.cluster.gate import Gate

        Gate(run, roster, messages).work(address, modules)

    entry.run(run.run_dir / "logs" / "gate.log", work)


def start_gate(address: str, run: SharedRun, children: Children, signals: Signals, log: RunLog) -> tuple[Child, Roster]:
    """The gate of a run, once it has planned who is where; ConfigError where the cluster cannot be used."""
    if run.environment.needs_main:
        raise ConfigError("cluster: the environment is defined in the script itself; put it into a module of its own")
    if run.config.workers < 2:
        raise ConfigError("cluster: needs --workers of 2 or more: the first is on this machine")
    roster = Roster(run.config.workers)
    target = functools.partial(main, run, roster, address, modules_of(run))
    patience = Patience(JOIN_SECONDS, 30.0)
    gate = children.make("gate", target, lambda pipe: (pipe,), run.scoreboard.gate, patience)
    gate.start()
    deadline = time.monotonic() + JOIN_SECONDS
    try:
        while True:
            for kind, line in gate.receive():
                if kind == "refused":
                    raise ConfigError(line)
                if kind == "cluster":
                    log.event("cluster", line)
                    return gate, roster
            signals.check()
            if not gate.is_alive or time.monotonic() > deadline:
                gate.reap()
                raise ConfigError(f"cluster: {address} cannot be used: {gate.cause()[0]} (logs/gate.log)")
            time.sleep(POLL_SECONDS)
    except BaseException:
        gate.kill()
        raise


def modules_of(run: SharedRun) -> tuple[str, ...]:
    """The modules of the user's environment, which other nodes need too."""
    from a3c.lookup import OWN_MODULES

    points = [str(run.environment.spec.entry_point or ""), *run.config.wrappers, run.config.env]
    found = dict.fromkeys(point.partition(":")[0] for point in points if ":" in point)
    return tuple(name for name in found if not name.startswith((*OWN_MODULES, "a3c.")))
