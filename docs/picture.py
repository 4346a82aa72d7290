"""Draw the README's picture of the live console from a real run: python docs/picture.py [SEED]."""

import dataclasses
import io
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console

from a3c.config import Config
from a3c.environments import describe
from workers.console.panels import render
from workers.console.text import PlainView
from workers.processes.signals import Signals
from workers.processes.start import start_forkserver
from workers.runs.directory import open_run_directory
from workers.runs.records import Status
from workers.training import supervise

WIDTH, HEIGHT = 100, 32
PICTURE = Path(__file__).with_name("console.svg")


class Recorder(PlainView):
    """Keeps every status that a live console would have shown."""

    def __init__(self) -> None:
        super().__init__(None)
        self.statuses: list[Status] = []

    def update(self, status: Status) -> None:
        self.statuses.append(status)


def main(seed: int) -> None:
    """Train, and export the frame at which the solution was being verified."""
    started = time.monotonic()
    config = Config.from_options({"seed": seed})
    start_forkserver()
    recorder = Recorder()
    with tempfile.TemporaryDirectory() as folder:
        directory = open_run_directory(Path(folder) / "runs" / "CartPole-v1")
        with Signals() as signals:
            supervise(config, describe(config.env), directory, recorder, signals, started)
        directory.close()
    training = [status for status in recorder.statuses if status.phase == "training" and status.losses]
    console = Console(record=True, width=WIDTH, height=HEIGHT, file=io.StringIO(), force_terminal=True)
    status = dataclasses.replace(training[-1], run_dir="runs/CartPole-v1-async")
    console.print(render(status, WIDTH, HEIGHT), end="")
    PICTURE.write_text(console.export_svg(title=f"python run_a3c.py --workers 4 --seed {seed}"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
