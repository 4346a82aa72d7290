"""Named settings: options that belong together and replace the defaults; whatever is typed beside them wins."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "none": {},
    # The recipe of the actor-critic tutorials; docs/tutorial.md holds its claims against what is measured.
    "a2c-tutorial": {
        "mode": "sync",
        "hidden_sizes": (128, 128),
        "n_steps": 5,
        "gamma": 0.99,
        "gae_lambda": 1.0,
        "value_scale": 1.0,
        "entropy_coef": 0.01,
        "log_interval": 10,
        # What it leaves open, at the best that a search has found (benchmarks/tutorial):
        "workers": 2,
        "envs_per_worker": 8,
        "optimizer": "rmsprop",
        "learning_rate": 8e-3,
        "anneal": False,
        "max_grad_norm": 0.5,
        "value_coef": 0.1,  # times one half of the squared error
    },
    # Of all that a search has tried, the fewest env steps until CartPole-v1 is solved, over many seeds rather than at
    # best (benchmarks/tuning). One worker, so that no gradient is stale, judged often; time plays no part.
    "sample-efficient": {
        "workers": 1,
        "hidden_sizes": (256,),
        "n_steps": 12,
        "value_coef": 2.0,
        "value_scale": 50.0,
        "normalize_advantages": True,
        "learning_rate": 5.6e-3,
        "anneal": False,
        "epsilon": 1e-8,
        "eval_interval": 25,  # from 500 env steps on, the next evaluation is due after 5 % more
    },
}

# The best setting that was found for each mode on CartPole-v1, with 4 workers on 2 cores, as what it changes of the
# defaults (benchmarks/tuning). The defaults themselves are an earlier best of `async`.
TUNED: dict[str, dict[str, Any]] = {
    "async": {"value_coef": 1.0, "max_grad_norm": 0.5},
    "locked": {"gamma": 0.98},
    "sync": {
        "n_steps": 32,
        "learning_rate": 5.6e-3,
        "gae_lambda": 0.95,
        "normalize_advantages": True,
        "max_grad_norm": 0.5,
        "adam_beta1": 0.5,
    },
}
