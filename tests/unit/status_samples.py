"""Made-up statuses and summaries for the tests of whatever shows a run."""

from dataclasses import replace

from workers.runs.records import Evaluation, Event, Faults, Losses, Races, Staleness, Status, Summary, WorkerStatus

FAULTS = Faults(
    worker_restarts=3, monitor_restarts=1, observations=2, rewards=10, gradients=5, rollbacks=1, failed_saves=1
)
CURVE = (9.4, 22.7, 61.3, 104.9, 98.2, 187.5, 241.8, 322.6, 301.4, 412.3, 455.0, 488.2)


def sample_evaluations(means: tuple[float, ...] = CURVE) -> tuple[Evaluation, ...]:
    """One evaluation per 3,000 env steps."""
    return tuple(
        Evaluation(
            env_steps=3_072 * number,
            updates=12 * number,
            seconds=0.1 * number + 0.02 * (number * 7 % 5),
            episodes=100,
            mean=mean,
            std=0.12 * abs(mean),
            min=0.6 * mean,
            max=min(1.3 * mean, 500.0),
            seed=1_000 + number,
        )
        for number, mean in enumerate(means, 1)
    )


def sample_worker(worker_index: int, state: str = "running") -> WorkerStatus:
    return WorkerStatus(
        worker_index=worker_index,
        pid=4_000 + worker_index,
        state=state,
        env_steps=9_216 + 16 * worker_index,
        steps_per_second=7_253.0 + 37 * worker_index,
        updates=36,
        episodes=103 + worker_index,
        mean_return=231.4 - worker_index,
        staleness=1.2 + worker_index % 4,
        cpu_percent=98.0,
        memory_bytes=212 * 2**20,
    )


def sample_status(workers: int = 4) -> Status:
    """A CartPole run shortly before it is verified."""
    evaluations = sample_evaluations()
    return Status(
        env_id="CartPole-v1",
        mode="async",
        seed=0,
        run_dir="runs/CartPole-v1-async-0",
        phase="training",
        elapsed_seconds=3.4,
        train_seconds=1.3,
        env_steps=36_864,
        max_env_steps=500_000,
        updates=144,
        episodes=412,
        steps_per_second=29_013.0,
        mean_return=231.4,
        target_return=475.0,
        evaluations=evaluations,
        best=evaluations[-1],
        workers=tuple(sample_worker(worker_index) for worker_index in range(workers)),
        time_shares={"env": 0.41, "forward": 0.18, "backward": 0.12, "pull": 0.01, "push": 0.04, "other": 0.24},
        losses=Losses(-0.0123, 0.0341, 0.5412, 0.9134, 0.4217, 4.88e-3),
        staleness=Staleness(1.3, 1.0, 3.0, 9),
        monitor_cpu_percent=12.0,
        events=(
            Event(1.9, "started", f"{workers} workers, async, seed 0"),
            Event(2.6, "checkpointed", "checkpoints/best, greedy mean 322.6"),
            Event(2.9, "checkpointed", "checkpoints/best, greedy mean 412.3"),
            Event(3.1, "evaluated", "greedy mean 455.0 ± 54.6 over 100 episodes"),
            Event(3.3, "checkpointed", "checkpoints/best, greedy mean 488.2"),
        ),
    )


def faulty_status(workers: int = 4) -> Status:
    """A run that has survived a fault of every kind; worker 0 is being replaced, worker 1 has been, twice."""
    status = sample_status(workers)
    first, second, *others = status.workers
    restarting = replace(first, state="restarting", steps_per_second=0.0, restarts=1)
    messages = {
        "hung": "worker-0 has not moved for 60 s",
        "restarted": "worker-1, for the 2nd time",
        "unsaved": "checkpoints/latest: no space left on device",
    }
    return replace(
        status,
        workers=(restarting, replace(second, restarts=2, node="10.0.0.7"), *others),
        events=(*status.events, *(Event(3.3, kind, message) for kind, message in messages.items())),
        faults=FAULTS,
    )


def unknown_status() -> Status:
    """A run of which nothing is known yet."""
    return replace(
        sample_status(2),
        phase="starting",
        env_steps=0,
        updates=0,
        episodes=0,
        steps_per_second=0.0,
        mean_return=None,
        target_return=None,
        evaluations=(),
        best=None,
        workers=tuple(
            replace(
                sample_worker(i, "starting"),
                pid=None,
                mean_return=None,
                staleness=None,
                cpu_percent=None,
                memory_bytes=None,
            )
            for i in range(2)
        ),
        time_shares={},
        losses=None,
        staleness=None,
        monitor_cpu_percent=None,
        events=(),
    )


def broken_status(value: float) -> Status:
    """A run whose every measurement is nan or infinite."""
    evaluations = tuple(replace(e, mean=value, std=value, min=value, max=value) for e in sample_evaluations())
    return replace(
        sample_status(3),
        steps_per_second=value,
        mean_return=value,
        evaluations=evaluations,
        best=evaluations[-1],
        target_return=value,
        workers=tuple(
            replace(sample_worker(i), steps_per_second=value, mean_return=value, staleness=value, cpu_percent=value)
            for i in range(3)
        ),
        time_shares={"env": value, "other": value},
        losses=Losses(value, value, value, value, value, value),
        staleness=Staleness(value, value, value, 9),
    )


def sample_summary(status: str = "solved") -> Summary:
    return Summary(
        status=status,
        env_id="CartPole-v1",
        mode="async",
        workers=4,
        seed=0,
        env_steps=38_912,
        max_env_steps=38_000,
        updates=152,
        episodes=431,
        wall_seconds=3.62,
        train_seconds=1.43,
        steps_per_second=27_211.0,
        solved_env_steps=36_864 if status == "solved" else None,
        solved_seconds=1.31 if status == "solved" else None,
        target_return=475.0,
        evaluation=sample_evaluations()[-1],
        staleness=Staleness(1.3, 1.0, 3.0, 9),
        races=Races(3, 2),
        cpu_seconds=1.9,
        profile=(),
        advantage_magnitude=4.2,
        policy_loss_variance=0.7,
        worker_restarts=0,
        faults=Faults(),
        state_sha256="0" * 64,
        checkpoint="checkpoints/best",
        reason="because of a test",
    )
