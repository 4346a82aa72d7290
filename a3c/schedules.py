"""How hyper-parameters change over a run."""

from a3c.config import Config


def annealed_learning_rate(config: Config, env_steps: int) -> float:
    """The learning rate after `env_steps` of all workers: linear to 0 at the budget.

    (Mnih et al. 2016, supplement, experimental setup.)
    """
    rate = config.optimizer.learning_rate
    return rate * max(0.0, 1 - env_steps / config.max_env_steps) if config.optimizer.anneal else rate
