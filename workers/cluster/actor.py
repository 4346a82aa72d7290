"""What Ray starts on a node: it says at once what is there, and becomes the node's host when it is given its part."""

import math
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from workers.cluster.facts import facts
from workers.processes.start import start_forkserver

if TYPE_CHECKING:
    from workers.cluster.exchange import Job, Orders, Report
    from workers.cluster.host import Host

ALONE_SECONDS = 60.0  # that one is there without being asked


class HostActor:
    """Ends by itself where nobody asks any more: its gate may be gone, and Ray not be there to tell.

    Torch is not imported before `begin`, so that the first answer does not wait for it.
    """

    def __init__(self) -> None:
        self._asked = time.monotonic()
        self._host: Host | None = None
        self._folder: Path | None = None
        threading.Thread(target=self._end_when_alone, daemon=True).start()

    def facts(self, modules: tuple[str, ...]) -> dict[str, str]:
        """What has to be the same on all machines, as it is here."""
        return facts(modules)

    def begin(self, job: "Job") -> None:
        """Host a node's part of a run."""
        self._asked = math.inf  # however long it takes to import torch
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="a3c-node-"))
            (self._folder / "logs").mkdir()
            start_forkserver(self._folder / "logs" / "forkserver.log")  # which imports torch beside the next line
            from workers.cluster.host import Host

            self._host = Host(job, self._folder)
        finally:
            self._asked = time.monotonic()

    def exchange(self, orders: "Orders") -> "Report":
        self._asked = time.monotonic()
        assert self._host is not None, "no job has begun"
        return self._host.exchange(orders)

    def close(self) -> None:
        """End all workers, and leave no file."""
        if self._host is not None:
            self._host.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _end_when_alone(self) -> None:
        while time.monotonic() - self._asked < ALONE_SECONDS:
            time.sleep(1.0)
        self.close()
        os._exit(1)
