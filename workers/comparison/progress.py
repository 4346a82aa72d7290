"""What a study looks like at one moment, while its runs go on."""

from dataclasses import dataclass

from workers.comparison.results import Run
from workers.runs.records import Status


@dataclass(frozen=True, slots=True)
class ArmProgress:
    """One arm and what there is of it."""

    name: str
    planned: int  # runs
    runs: tuple[Run, ...]  # finished, in order of seeds


@dataclass(frozen=True, slots=True)
class StudyStatus:
    """The whole study at one moment."""

    env_id: str
    study_dir: str
    target_return: float | None
    max_env_steps: int  # the largest of all arms
    arms: tuple[ArmProgress, ...]
    current_arm: str | None  # of the run that is going on; None before the first and after the last
    current_seed: int | None
    current: Status | None  # of that run; None until it has told anything
    elapsed_seconds: float  # since the command was typed
    remaining_seconds: float | None  # estimated; None before the first run has ended
    message: str = ""  # the last thing that happened, one line

    @property
    def runs_done(self) -> int:
        """Finished runs of all arms."""
        return sum(len(arm.runs) for arm in self.arms)

    @property
    def runs_planned(self) -> int:
        """Runs of the whole study."""
        return sum(arm.planned for arm in self.arms)
