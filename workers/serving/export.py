"""`export`: a checkpoint's policy as an ONNX file, written once its check has shown that it is the same policy."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from a3c.actors import Policy
from a3c.checkpoint import Checkpoint
from a3c.config import CheckpointError, ConfigError
from a3c.environments import EnvironmentSpec
from a3c.evaluation import Greedy, Returns, evaluate
from a3c.files import write_durably
from a3c.heads import Categorical
from workers import exit_codes
from workers.console.drawing import UNKNOWN, Frame, Line, clean, number, plural
from workers.extras import require
from workers.playing.evaluating import load
from workers.processes.output import environment_output
from workers.runs.program import command
from workers.serving.metadata import Metadata
from workers.serving.verify import BATCHES, Agreement, Array, compare, greedy, real_observations

PACKAGES = ("onnx", "onnxruntime", "onnxscript")  # the extra `export`
FORMATS = ("onnx",)


@dataclass(frozen=True, slots=True)
class Export:
    """A policy as the content of a file, and how it did beside its checkpoint."""

    precision: str  # fp32 | int8
    content: bytes
    agreement: Agreement
    returns: Returns


@dataclass(frozen=True, slots=True)
class Trial:
    """The exports of one checkpoint, fp32 first; none of them is on disk yet."""

    checkpoint: Checkpoint
    env_id: str
    seed: int
    returns: Returns  # of the checkpoint itself
    exports: tuple[Export, ...]

    def write(self, paths: Sequence[Path]) -> None:
        """Write the files, unless one is not the checkpoint's policy or is no longer good enough.

        Raises:
            CheckpointError: fp32 differs from the checkpoint by more than rounding, or int8 misses a target that the
                checkpoint reaches.
        """
        agreement, path, target = self.exports[0].agreement, self.checkpoint.path, _target(self.checkpoint)
        if not agreement.exact:
            others = agreement.observations - agreement.same
            raise CheckpointError(
                f"{path}: its export is another policy: another action on {others:,} of {agreement.observations:,} "
                f"observations, probabilities that differ by up to {agreement.difference:.1e}; nothing was written; "
                f"install {', '.join(PACKAGES)} as in constraints.txt"
            )
        own = self.returns.statistics()["mean"]
        for export in self.exports[1:]:  # fp32 is the checkpoint: that it misses what that has just reached is luck
            mean = export.returns.statistics()["mean"]
            if target is not None and mean < target <= own:
                raise CheckpointError(
                    f"{path}: as {export.precision} it misses its target: mean return {mean:.1f} of {target:g}, where "
                    f"the checkpoint has {own:.1f}; nothing was written; export it without --int8"
                )
        for export, place in zip(self.exports, paths, strict=True):
            write_durably(place, export.content)


def export_policy(
    path: str,
    format: str,
    int8: bool,
    with_critic: bool,
    output: str | None,
    episodes: int,
    seed: int,
    env: str | None = None,
) -> int:
    """Export a policy, check it, print how it did, write it; with `int8` in both precisions, which the table compares.

    Args:
        path: a run directory or a checkpoint's manifest.
        format: "onnx".
        with_critic: values as a third output.
        output: the file; by default RUN_DIR/policy.onnx, or the manifest's name with the ending .onnx beside it. The
            int8 version of policy.onnx is policy-int8.onnx.
        episodes, seed: of the check.
        env: the id by which its environment is found; default: the checkpoint's own.
    Returns: the exit code.
    Raises:
        ConfigError: an option cannot be followed, or a package is missing.
        CheckpointError: there is none, or its export does not pass the check; then nothing is written.
        OSError: the file cannot be written; an older one is still there.
    """
    if format not in FORMATS:
        raise ConfigError(f"format: must be one of {', '.join(FORMATS)}, got {format!r}")
    trial, paths = _check(path, Path(path), output, int8, with_critic, episodes, seed, env)
    console = Console()
    console.print(_table(trial), soft_wrap=True)
    trial.write(paths)
    lines: list[Line] = [[], *([("  written  ", "dim"), (clean(str(place)), "")] for place in paths)]
    lines += [[], [("  next", "dim")], [(f"  {command('serve', clean(str(paths[-1])))}", "bold")]]
    console.print(Frame(lines), soft_wrap=True)
    return exit_codes.FINISHED


def export_checked(
    path: str, directory: Path, int8: bool, with_critic: bool, episodes: int, seed: int, env: str | None = None
) -> list[Path]:
    """Export a policy into a directory after the same checks, and print nothing; the paths of the files, fp32 first.

    Raises: as `export_policy`.
    """
    trial, paths = _check(path, directory, None, int8, with_critic, episodes, seed, env)
    trial.write(paths)
    return paths


def _check(
    path: str, place: Path, output: str | None, int8: bool, with_critic: bool, episodes: int, seed: int, env: str | None
) -> tuple[Trial, list[Path]]:
    """Export a checkpoint in memory and check what each export does; also where the files are to be written."""
    require("export", PACKAGES)
    with environment_output():
        checkpoint, environment = load(path, env)
        paths = _paths(place, output, int8)
        return _try(checkpoint, environment, int8, with_critic, episodes, seed), paths


def _paths(place: Path, output: str | None, int8: bool) -> list[Path]:
    """Where the files are written, one per precision; refused before anything takes time."""
    default = place / "policy.onnx" if place.is_dir() else place.with_suffix(".onnx")
    first = default if output is None else Path(output)
    paths = [first, first.with_stem(f"{first.stem}-int8")] if int8 else [first]
    for path in paths:
        if path.suffix != ".onnx" or path.is_dir():
            raise ConfigError(f"output: must name a file that ends in .onnx, got '{path}'")
    if not os.access(first.parent, os.W_OK | os.X_OK):
        raise ConfigError(
            f"output: '{first.parent}' is no directory that can be written to; choose another place with --output"
        )
    return paths


def _try(
    checkpoint: Checkpoint, environment: EnvironmentSpec, int8: bool, with_critic: bool, episodes: int, seed: int
) -> Trial:
    from workers.serving.graph import int8_graph, policy_graph, serialize
    from workers.serving.model import parse_model

    def returns(actions: Greedy) -> Returns:
        result = evaluate(actions, environment, episodes, seed)
        assert result is not None  # nobody cancels it
        return result

    policy = Policy(checkpoint.model)
    observations = real_observations(policy, environment, seed)
    metadata = _metadata(checkpoint, environment, observations, with_critic, seed)
    graphs = {"fp32": policy_graph(checkpoint.model, metadata)}
    if int8:
        graphs["int8"] = int8_graph(graphs["fp32"])
    exports = []
    for precision, graph in graphs.items():
        content = serialize(graph, replace(metadata, precision=precision))
        try:
            model = parse_model(content)
        except ValueError as error:
            raise CheckpointError(f"{checkpoint.path}: its {precision} export cannot be used: {error}") from error
        exports.append(Export(precision, content, compare(model, policy, observations), returns(greedy(model))))
    return Trial(checkpoint, environment.env_id, seed, returns(policy.actions), tuple(exports))


def _metadata(
    checkpoint: Checkpoint, environment: EnvironmentSpec, observations: Array, with_critic: bool, seed: int
) -> Metadata:
    """What a consumer has to know; `observations` are those of the check."""
    manifest, model = checkpoint.manifest, checkpoint.model
    assert isinstance(model.head, Categorical)
    return Metadata(
        env_id=environment.env_id,
        observation_size=model.observation.shape[0],
        action_count=model.head.outputs,
        action_start=model.head.start,
        precision="fp32",
        critic=with_critic,
        checkpoint_sha256=manifest["weights"]["sha256"],
        updates=manifest["updates"],
        env_steps=manifest.get("env_steps"),
        max_episode_steps=checkpoint.max_episode_steps,
        target_return=_target(checkpoint),
        seed=seed,
        lowest=tuple(observations.min(0).tolist()),
        highest=tuple(observations.max(0).tolist()),
    )


def _target(checkpoint: Checkpoint) -> float | None:
    """The mean return that counts as solved, where there is one."""
    target = checkpoint.manifest.get("target_return")
    return float(target) if isinstance(target, int | float) else None


def _table(trial: Trial) -> Frame:
    """How the checkpoint and its exports did."""
    critic = trial.exports[0].agreement.value_difference is not None
    titles = ["policy", "mean", "std", "min", "max", "agreement", "prob. off", *(["value off"] * critic), "file"]
    rows = [titles, ["checkpoint", *_returns(trial.returns), *[UNKNOWN] * (3 + critic)]]
    for export in trial.exports:
        agreement = export.agreement
        same = f"{100 * agreement.same / agreement.observations:.2f} %"
        differences = [agreement.difference, *([agreement.value_difference or 0.0] * critic)]
        size = f"{len(export.content) / 1000:,.1f} kB"
        name = f"ONNX {export.precision}"
        rows.append([name, *_returns(export.returns), same, *(f"{size:.1e}" for size in differences), size])
    first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    head, *body = ("  ".join([f"{row[0]:<{first}}", *map(str.rjust, row[1:], widths)]) for row in rows)
    title: Line = [(clean(trial.env_id), "bold"), (f"   {clean(str(trial.checkpoint.path))}", "dim")]
    notes = [
        f"Returns of {plural(len(trial.returns.returns), 'greedy episode')}; agreement of greedy actions, and the "
        "largest",
        f"differences, on {trial.exports[0].agreement.observations:,} observations of greedy, sampled and random play, "
        "asked",
        f"in batches of {', '.join(map(str, BATCHES))}. Seed {trial.seed}.",
    ]
    if ties := trial.exports[0].agreement.ties:
        notes.append(f"On {plural(ties, 'observation')} the checkpoint's two best actions are equally good: either is")
        notes.append("right.")
    return Frame(
        [title, [], [(head, "dim")], *([(row, "")] for row in body), [], *([(f"  {note}", "dim")] for note in notes)]
    )


def _returns(returns: Returns) -> list[str]:
    return [number(value) for value in returns.statistics().values()]  # mean, std, min, max
