"""Film the first steps of a greedy episode: python docs/film.py RUN_DIR FILE.gif [STEPS]."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import contextlib

import numpy as np

from a3c.actors import Policy
from workers.playing.episode import Player, Step
from workers.playing.evaluating import load
from workers.playing.recording import recording

FPS, SEED = 20.0, 0


class FilmedError(Exception):
    """The film is long enough."""


def main(run_dir: str, film: str, steps: int) -> None:
    """Play, and film as many steps."""
    checkpoint, environment = load(run_dir)
    player = Player(
        environment.make_one("rgb_array"), environment, Policy(checkpoint.model), True, np.random.default_rng(0), None
    )
    with recording(Path(film), FPS) as add:

        def show(step: Step) -> None:
            if step.index == steps:
                raise FilmedError
            add(step.pixels)

        with contextlib.suppress(FilmedError):
            player.play("film", SEED, show)
    player.env.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 300)
