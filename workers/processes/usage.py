"""What a process takes of the machine."""

import contextlib
import math
import time

import psutil

PROCESS_INTERVAL = 1.0  # seconds between looks at a process's CPU time and memory


class Usage:
    """CPU time and memory of one process, looked at once a second at most."""

    def __init__(self, pid: int):
        self.cpu_percent: float | None = None  # of one core, since the last look
        self.memory_bytes: int | None = None
        self._cpu_seconds = 0.0
        self._since = time.monotonic()
        self._looked = -math.inf
        self._process: psutil.Process | None = None
        with contextlib.suppress(psutil.Error):
            self._process = psutil.Process(pid)

    def look(self) -> None:
        """Refresh both figures where they are old; a process that is gone keeps its last ones."""
        now = time.monotonic()
        if self._process is None or now - self._looked < PROCESS_INTERVAL:
            return
        try:
            times = self._process.cpu_times()
            self.memory_bytes = int(self._process.memory_info().rss)
        except psutil.Error:
            self._process = None
            return
        cpu_seconds = times.user + times.system
        self.cpu_percent = 100 * (cpu_seconds - self._cpu_seconds) / max(now - self._since, 0.01)
        self._cpu_seconds, self._since, self._looked = cpu_seconds, now, now
