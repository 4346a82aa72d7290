"""The phases of a worker's loop, which book all of its time."""

PHASES = (
    "env",  # the environments' steps
    "forward",  # the network, acting and learning
    "sampling",  # actions drawn, and the rollout recorded
    "returns",
    "backward",
    "clip",
    "push",
    "pull",
    "publish",  # counts and statistics put on the scoreboard
    "idle",  # waiting for other workers, in `sync` and `locked`
)
