"""Draw the pictures of a policy in use, in the terminal and in the browser: python docs/pictures_of_use.py RUN_DIR."""

import base64
import io
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from rich.console import Console

from a3c.actors import Policy
from tests.process.chromium import Chromium
from tests.process.http_client import ServerProgram
from workers.playing.episode import Player, Step
from workers.playing.evaluating import load
from workers.playing.terminal_view import render
from workers.serving.export import export_policy

FIGURES = Path(__file__).with_name("figures")
WIDTH, HEIGHT = 80, 20  # cells
PAGE = (1000, 480)  # pixels


def draw_terminal(run_dir: str) -> None:
    """The step of an episode at which the pole leans the most, as `play --terminal` shows it."""
    checkpoint, environment = load(run_dir)
    env, steps = environment.make_one(), list[Step]()
    player = Player(env, environment, Policy(checkpoint.model), False, np.random.default_rng(0), None)
    player.play("episode 1 of 3", 0, steps.append)
    env.close()
    console = Console(record=True, width=WIDTH, height=HEIGHT, file=io.StringIO(), force_terminal=True)
    console.print(render(max(steps[:-1], key=lambda step: abs(step.observation[2])), WIDTH, HEIGHT), end="")
    (FIGURES / "play-terminal.svg").write_text(console.export_svg(title="python run_a3c.py play RUN_DIR --terminal"))


def draw_page(run_dir: str) -> None:
    """The page of `serve`, some steps into an episode."""
    with tempfile.TemporaryDirectory() as folder:
        (model,) = export_policy(run_dir, str(Path(folder) / "policy.onnx"), False, True, 10, 0, quiet=True)
        with ServerProgram(model) as server, Chromium(Path(folder) / "profile") as browser:
            browser.resize(*PAGE)
            browser.prefer("light")
            browser.open(f"http://127.0.0.1:{server.port}/")
            browser.until("game.steps > 40")
            browser.value("element('push-right').click()")
            browser.value("sleep(160)")
            picture = browser.send("Page.captureScreenshot", format="png")["data"]
    (FIGURES / "serve-page.png").write_bytes(base64.b64decode(picture))


if __name__ == "__main__":
    draw_terminal(sys.argv[1])
    draw_page(sys.argv[1])
