"""A headless Chromium, driven over its DevTools protocol by two pipes: needs the browser and no package."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--remote-debugging-pipe",
    "--hide-scrollbars",
    "about:blank",
)


class Chromium:
    """One page in a browser of its own, which ends with it. What the page complains about is kept in `complaints`."""

    def __init__(self, profile: Path):
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        # The browser reads commands from descriptor 3 and answers on 4; a shell can put them there, Popen cannot.
        shell = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        command = ["bash", "-c", shell, str(BROWSER), f"--user-data-dir={profile}", *FLAGS]
        self._process = subprocess.Popen(
            command,
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._commands, self._answers = os.fdopen(ours_out, "wb", 0), os.fdopen(ours_in, "rb", 0)
        self._pending, self._number, self._session = b"", 0, ""
        self.complaints: list[str] = []

    def __enter__(self) -> "Chromium":
        targets = self.send("Target.getTargets")["targetInfos"]
        target = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._session = ""
        try:
            self.send("Browser.close")
            self._process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait(10)
        self._commands.close()
        self._answers.close()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for what it gives back."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._note(answer)
        assert "result" in answer, answer
        return dict(answer["result"])

    def open(self, url: str) -> None:
        """Leave the page before, with what it complained about, and load another."""
        self.send("Page.navigate", url="about:blank")
        self.until("location.href === 'about:blank'")
        self.complaints.clear()
        self.send("Page.navigate", url=url)
        self.until("location.href !== 'about:blank' && document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """What an expression is in the page; a promise is waited for."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition: str, seconds: float = 30) -> None:
        """Wait until an expression is true in the page."""
        deadline = time.monotonic() + seconds
        while not self.value(condition):
            assert time.monotonic() < deadline, f"waited in vain for {condition}; complaints: {self.complaints}"
            time.sleep(0.02)

    def resize(self, width: int, height: int) -> None:
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, scheme: str) -> None:
        """Dark or light."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(event["params"]["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
            self.complaints.append(str(event["params"]["entry"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            chunk = self._answers.read(65536)
            if not chunk:
                raise OSError("the browser has ended")
            self._pending += chunk
        message, _, self._pending = self._pending.partition(b"\0")
        return dict(json.loads(message))
