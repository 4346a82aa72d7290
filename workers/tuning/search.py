"""The search: Optuna suggests settings, runs show what they are worth, the best is run again on fresh seeds."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from a3c.config import CheckpointError, ConfigError
from a3c.files import json_bytes, write_durably
from workers.tuning.space import as_options, drawn, first
from workers.tuning.trials import FIRST_SEED, TENTHS, Outcome, Run

STARTUP_TRIALS = 8  # at random, before the sampler and the pruner have something to go by
WARMUP_TENTHS = 3  # of a trial's first run, before which none is given up
HOPELESS = 3  # failed trials at the beginning that end a search
POLL_SECONDS = 0.2
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is searched, and how."""

    typed: dict[str, Any]  # options that every run has
    target: float | None
    budget: int  # env steps of a trial's run
    seeds: int  # runs of a trial
    confirmations: int  # runs of the best setting on fresh seeds, and as many without it
    trials: int
    jobs: int

    def identity(self) -> dict[str, Any]:
        """What the trials of one file have in common."""
        return {"options": self.typed, "target": self.target, "seeds": self.seeds}


@dataclass
class Trial:
    """A trial under way: its runs, one after the other."""

    trial: Any
    options: dict[str, Any]
    run: Run | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    reported: int = 0  # the last step that the pruner has heard of


def open_study(path: Path, plan: Plan) -> Any:
    """The study in its file, as it was left; a CheckpointError or a ConfigError where it cannot be, or is another."""
    study, made_before = _loaded(path / "trials.sqlite")
    wanted, kept = json.loads(json.dumps(plan.identity())), study.user_attrs.get("plan")
    if kept is None:
        study.set_user_attr("plan", wanted)
        study.enqueue_trial(first(plan.typed))
    elif others := [
        f"{name} were {kept.get(name)} and are {wanted[name]}" for name in wanted if kept.get(name) != wanted[name]
    ]:
        raise ConfigError(f"tune_dir: {path} is of another search: {'; '.join(others)}; choose another --tune-dir")
    # Another seed than before: the same one would suggest the same settings again.
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, seed=made_before)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        give_back(study, trial)
    return study


def _loaded(file: Path) -> tuple[Any, int]:
    """The study, new or old, and how many trials it has."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.MedianPruner(STARTUP_TRIALS, WARMUP_TENTHS)
    named: dict[str, Any] = {"storage": f"sqlite:///{file}", "study_name": "a3c", "load_if_exists": True}
    try:
        study = optuna.create_study(direction="maximize", pruner=pruner, **named)
        return study, len(study.get_trials(deepcopy=False))
    except Exception as error:  # of SQLAlchemy, SQLite or Optuna
        line = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{file}: cannot be read ({line}); move it away, or choose another --tune-dir") from error


def give_back(study: Any, trial: Any) -> None:
    """Have a trial that was interrupted made again: what has failed without a reason does not count."""
    study.tell(trial.number, state=TrialState.FAIL)
    study.enqueue_trial(trial.params)


def made(study: Any) -> list[Any]:
    """The trials that count: all that have ended but those that were interrupted."""
    ended = [one for one in study.get_trials(deepcopy=False) if one.state.is_finished()]
    return [one for one in ended if one.state is not TrialState.FAIL or "reason" in one.user_attrs]


class Search:
    """Trials side by side until there are as many as planned."""

    def __init__(self, study: Any, plan: Plan, path: Path):
        self.study, self.plan, self._path = study, plan, path
        self.running: list[Trial] = []

    def run(self, changed: Callable[["Search", str], None]) -> None:
        """Make the trials that are missing; `changed` is called with a line for each that has ended, and in between."""
        try:
            while self.running or self._asked() < self.plan.trials:
                while len(self.running) < self.plan.jobs and self._asked() < self.plan.trials:
                    self._ask()
                for one in list(self.running):
                    if (line := self._advance(one)) is not None:
                        self.running.remove(one)
                        changed(self, line)
                        self._check_hope()
                changed(self, "")
                time.sleep(POLL_SECONDS)
        finally:
            self._interrupt()

    def ended(self) -> list[Any]:
        """The trials that count."""
        return made(self.study)

    def _ask(self) -> None:
        trial = self.study.ask()
        self.running.append(Trial(trial, {**self.plan.typed, "preset": "none", **drawn(trial, self.plan.typed)}))

    def _check_hope(self) -> None:
        """Give the search up where all of its first trials have failed: so will the others."""
        ended = self.ended()
        if len(ended) == HOPELESS and all(one.state is TrialState.FAIL for one in ended):
            raise ConfigError(f"tune: the first {HOPELESS} trials failed: {ended[-1].user_attrs['reason']}")

    def _asked(self) -> int:
        return len(self.ended()) + len(self.running)

    def _advance(self, one: Trial) -> str | None:
        """Start its next run, hear what it has reached; a line once the trial has ended."""
        if one.run is None:
            try:
                seed = FIRST_SEED + len(one.outcomes)
                path = self._path / "runs" / f"{one.trial.number}-seed-{seed}"
                one.run = Run({**one.options, "seed": seed}, path)
            except ConfigError as error:  # options that do not go together, such as more minibatches than steps
                return self._tell(one, TrialState.FAIL, str(error))
        if not one.run.has_ended():
            return self._prune(one)
        outcome = one.run.outcome()
        one.run.end()
        one.run = None
        if outcome.status == "failed":
            return self._tell(one, TrialState.FAIL, outcome.reason)
        one.outcomes.append(outcome)
        one.trial.report(self.score(one), len(one.outcomes) * TENTHS)
        if len(one.outcomes) == self.plan.seeds:
            return self._tell(one, TrialState.COMPLETE, "")
        return None

    def _prune(self, one: Trial) -> str | None:
        """Report its newest returns, and give it up where others were better by then."""
        assert one.run is not None
        tenths, mean = one.run.progress()
        step = len(one.outcomes) * TENTHS + tenths
        if mean is None or tenths == 0 or step <= one.reported:
            return None
        one.reported = step
        one.trial.report(self.score(one, mean), step)
        if not one.trial.should_prune():
            return None
        one.run.end()
        one.run = None
        return self._tell(
            one, TrialState.PRUNED, f"given up after {tenths * 10} % of seed {FIRST_SEED + len(one.outcomes)}"
        )

    def score(self, one: Trial, mean: float | None = None) -> float:
        """The mean over a trial's runs so far; `mean` is the newest of the one under way."""
        plan = self.plan
        scores = [outcome.score(plan.target, plan.budget) for outcome in one.outcomes]
        if mean is not None:
            scores.append(mean if plan.target is None else min(mean, plan.target))
        return sum(scores) / len(scores)

    def _tell(self, one: Trial, state: Any, reason: str) -> str:
        """Keep how a trial has ended."""
        facts = [asdict(outcome) for outcome in one.outcomes]
        one.trial.set_user_attr("outcomes", facts)
        if reason:
            one.trial.set_user_attr("reason", reason)
        score = self.score(one) if state is TrialState.COMPLETE else None
        self.study.tell(one.trial, score, state)
        return f"trial {one.trial.number}: {verdict(state.name, score, one.outcomes, reason)}"

    def _interrupt(self) -> None:
        """End what is still running; it is made again when the search is resumed."""
        for one in self.running:
            if one.run is not None:
                one.run.end()
            give_back(self.study, one.trial)
        self.running.clear()


def verdict(state: str, score: float | None, outcomes: list[Outcome], reason: str) -> str:
    solved = sum(outcome.is_solved for outcome in outcomes)
    if score is None:
        return f"{state.lower()}: {reason}"
    return f"score {score:.4g}, {solved} of {len(outcomes)} solved"


def best_options(study: Any) -> dict[str, Any] | None:
    """The setting of the best trial; None where none was finished."""
    finished = [one for one in made(study) if one.state is TrialState.COMPLETE]
    if not finished:
        return None
    best = max(finished, key=lambda one: one.value)
    chosen = {name: float(f"{value:.3g}") if isinstance(value, float) else value for name, value in best.params.items()}
    return as_options(chosen)


def confirmed(plan: Plan, options: Mapping[str, Any], path: Path, tell: Report) -> dict[str, list[Outcome]]:
    """The best setting and what is used without it, on the same fresh seeds in turn; those that are there are kept."""
    file = path / "confirmation.json"
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if kept.get("options") != json.loads(json.dumps(options)):
        kept = {"options": dict(options), "runs": {}}
    for name, seed, chosen in confirmations(plan, options):
        if (key := f"{name}-{seed}") not in kept["runs"]:
            with Run({**plan.typed, **chosen, "seed": seed}, path / "runs" / f"confirm-{key}") as run:
                while not run.has_ended():
                    tell("")
                    time.sleep(POLL_SECONDS)
                outcome = run.outcome()
            kept["runs"][key] = asdict(outcome)
            write_durably(file, json_bytes(kept))
            tell(f"{name}, seed {seed}: {outcome.status}, {outcome.env_steps:,} env steps, {outcome.seconds:.1f} s")
    found: dict[str, list[Outcome]] = {"tuned": [], "untuned": []}
    for name, seed, _ in confirmations(plan, options):
        found[name].append(Outcome(**kept["runs"][f"{name}-{seed}"]))
    return found


def confirmations(plan: Plan, options: Mapping[str, Any]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    for seed in range(plan.confirmations):
        yield "tuned", seed, {"preset": "none", **options}
        yield "untuned", seed, {}
