"""A strip of pictures of each environment of the gallery, played greedily by a policy that the command has trained.

    python -m benchmarks.gallery_pictures [ENV ...]

Needs pillow, and of the environments what draws them; one that cannot be drawn here is named and left out.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from a3c.actors import Policy
from a3c.serial import SerialEnvironments
from benchmarks.gallery import PICTURES, ROOT, ROWS, Row, name_of
from workers.playing.evaluating import load

FRAMES, HEIGHT, GAP = 6, 140, 4  # pictures of a strip, and pixels
COLORS = 64


def main() -> None:
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    for row in ROWS:
        if row.env in (sys.argv[1:] or [row.env]):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    pictures = episode(trained(row, Path(folder) / "run"))
                except Exception as error:  # of a simulator's drawing
                    print(f"{row.env}: cannot be drawn here: {error}")
                    continue
            strip(pictures).save(PICTURES / f"{name_of(row)}.png", optimize=True)
            print(f"{row.env}: {len(pictures)} steps", flush=True)


def trained(row: Row, run_dir: Path) -> Path:
    target = [] if row.to_the_end else ["--target-return", str(row.target)]
    words = ["--env", row.env, *target, "--seed", "0", "--run-dir", str(run_dir), "--dashboard", "off"]
    subprocess.run([sys.executable, "run_a3c.py", *words], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return run_dir


def episode(run_dir: Path) -> list[Any]:
    """Pictures of one greedy episode, step by step."""
    checkpoint, environment = load(run_dir)
    policy, one = Policy(checkpoint.model), environment.make_one("rgb_array")
    environments = SerialEnvironments([one], observation=policy.observation)
    observations, _ = environments.reset(seed=3)
    pictures, ended = [one.render()], False
    while not ended:
        observations, _, terminated, truncated, _ = environments.step(policy.actions(observations))
        pictures.append(one.render())
        ended = bool(terminated[0] or truncated[0])
    environments.close()
    return pictures


def strip(pictures: list[Any]) -> Image.Image:
    """Some of them side by side, from the first to the last."""
    chosen = [Image.fromarray(pictures[i]) for i in np.linspace(0, len(pictures) - 1, FRAMES).astype(int)]
    small = [picture.resize((round(picture.width * HEIGHT / picture.height), HEIGHT)) for picture in chosen]
    whole = Image.new("RGB", (sum(picture.width + GAP for picture in small) - GAP, HEIGHT), "white")
    x = 0
    for picture in small:
        whole.paste(picture, (x, 0))
        x += picture.width + GAP
    return whole.quantize(COLORS)


if __name__ == "__main__":
    main()
