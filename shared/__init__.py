"""What processes share: flat parameters, the shared optimizer, the scoreboard and the store."""

PHASES = (  # of a worker's loop, on which all of its time is booked
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
    "network",  # waiting for the run's machine, by a worker of another one
)
