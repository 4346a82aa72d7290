"""`export`: a policy as an ONNX file that has shown that it is the checkpoint's."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from a3c.checkpoint import Checkpoint
from a3c.config import CheckpointError, ConfigError
from a3c.environments import EnvironmentSpec
from a3c.evaluation import PolicyLogits, Returns, evaluate
from a3c.files import write_durably
from a3c.onnx_names import FORMAT
from a3c.policy import Policy
from workers import exit_codes
from workers.extras import require
from workers.playing.evaluating import load
from workers.processes.preflight import environment_output
from workers.serving.text import Row, render_trial, render_written
from workers.serving.verify import Agreement, Array, ExportedPolicy, real_observations

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
    """The exports of one checkpoint, fp32 first; nothing of them is on disk yet."""

    checkpoint: Checkpoint
    environment: EnvironmentSpec
    returns: Returns  # of the checkpoint itself
    exports: tuple[Export, ...]

    def judge(self) -> None:
        """Refuse what is not the checkpoint's policy, or is no longer good enough.

        Raises:
            CheckpointError: fp32 differs from the checkpoint by more than rounding, or int8 misses a target that the
                checkpoint reaches.
        """
        agreement, path, target = self.exports[0].agreement, self.checkpoint.path, target_of(self.checkpoint)
        if not agreement.exact:
            others = agreement.observations - agreement.same
            raise CheckpointError(
                f"{path}: its export is another policy: another action on {others:,} of {agreement.observations:,} "
                f"observations, probabilities that differ by up to {agreement.difference:.1e}; nothing was written; "
                f"install {', '.join(PACKAGES)} as in constraints.txt"
            )
        for export in self.exports[
            1:
        ]:  # fp32 is the checkpoint: that it misses what the other has just reached is luck
            mean, own = export.returns.statistics()["mean"], self.returns.statistics()["mean"]
            if target is not None and mean < target <= own:
                raise CheckpointError(
                    f"{path}: as {export.precision} it misses its target: mean return {mean:.1f} of {target:g}, where "
                    f"the checkpoint has {own:.1f}; nothing was written; export it without --int8"
                )


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
    """Export a policy, check it, print how it did, write it; with `int8` both precisions, for the table compares them.

    Args:
        path: a run directory or a checkpoint's manifest.
        format: "onnx".
        with_critic: values as a third output.
        output: the file; by default RUN_DIR/policy.onnx, or the manifest's name with the ending .onnx beside it. Its
            int8 version is called so: policy-int8.onnx.
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
    require("export", PACKAGES)
    with environment_output():
        checkpoint, environment = load(path, env)
        places = _places(Path(path), output, int8)
        trial = _try(checkpoint, environment, int8, with_critic, episodes, seed)
    console = Console()
    console.print(
        render_trial(trial.environment.env_id, str(trial.checkpoint.path), _rows(trial), seed), soft_wrap=True
    )
    trial.judge()
    _write(trial, places)
    console.print(render_written([str(place) for place in places]), soft_wrap=True)
    return exit_codes.FINISHED


def export_checked(
    path: str, directory: Path, int8: bool, with_critic: bool, episodes: int, seed: int, env: str | None = None
) -> list[Path]:
    """Export a policy into a directory after the same checks, in silence; the paths of the files, fp32 first.

    Raises: as `export_policy`.
    """
    require("export", PACKAGES)
    with environment_output():
        trial, places = _try(*load(path, env), int8, with_critic, episodes, seed), _places(directory, None, int8)
    trial.judge()
    _write(trial, places)
    return places


def _write(trial: Trial, places: list[Path]) -> None:
    for export, place in zip(trial.exports, places, strict=True):
        write_durably(place, export.content)


def target_of(checkpoint: Checkpoint) -> float | None:
    """The mean return that counts as solved, where there is one."""
    target = checkpoint.manifest.get("target_return")
    return float(target) if isinstance(target, int | float) else None


def _places(path: Path, output: str | None, int8: bool) -> list[Path]:
    """Where the files go, one per precision; known to be places for files before anything takes time."""
    default = path / "policy.onnx" if path.is_dir() else path.with_suffix(".onnx")
    place = default if output is None else Path(output)
    places = [place, _int8_name(place)] if int8 else [place]
    for place in places:
        if place.suffix != ".onnx" or place.is_dir():
            raise ConfigError(f"output: must name a file that ends in .onnx, got '{place}'")
    if not os.access(place.parent, os.W_OK | os.X_OK):
        raise ConfigError(
            f"output: '{place.parent}' is no directory that can be written to; choose another place with --output"
        )
    return places


def _int8_name(place: Path) -> Path:
    return place.with_stem(f"{place.stem}-int8")


def _try(
    checkpoint: Checkpoint, environment: EnvironmentSpec, int8: bool, with_critic: bool, episodes: int, seed: int
) -> Trial:
    """Make the exports of a checkpoint and let each show what it does."""
    from workers.serving.graph import int8_graph, policy_graph, stamped

    policy = Policy(checkpoint.model)
    observations = real_observations(policy, environment, seed)

    def returns(choices: PolicyLogits) -> Returns:
        result = evaluate(choices, environment, episodes, seed)
        assert result is not None  # nobody cancels it
        return result

    graphs = {"fp32": policy_graph(checkpoint.model, with_critic)}
    if int8:
        graphs["int8"] = int8_graph(graphs["fp32"])
    facts = {**_facts(checkpoint, environment), **_seen(policy, observations, with_critic), "seed": str(seed)}
    exports = []
    for precision, graph in graphs.items():
        content = stamped(graph, {**facts, "precision": precision})
        exported = ExportedPolicy(content)
        agreement = exported.agreement(policy, observations)
        exports.append(Export(precision, content, agreement, returns(exported.choices)))
    return Trial(checkpoint, environment, returns(policy.logits), tuple(exports))


def _facts(checkpoint: Checkpoint, environment: EnvironmentSpec) -> dict[str, str]:
    """What a consumer has to know of the policy and where it comes from; nothing where there is none."""
    manifest, target = checkpoint.manifest, target_of(checkpoint)
    facts = {
        "format": FORMAT,
        "env_id": environment.env_id,
        "observation_size": environment.observation_size,
        "action_count": environment.action_count,
        "action_start": environment.action_start,
        "checkpoint_sha256": manifest["weights"]["sha256"],
        "updates": manifest["updates"],
        "env_steps": manifest.get("env_steps"),
        "max_episode_steps": checkpoint.max_episode_steps,
        "target_return": target,
    }
    return {name: "" if value is None else str(value) for name, value in facts.items()}


def _seen(policy: Policy, observations: Array, with_critic: bool) -> dict[str, str]:
    """What the check has seen, by which a consumer can tell that its own observations are of another kind."""
    values = policy.values(observations).astype(np.float64)
    return {
        "critic": "yes" if with_critic else "no",
        "value_mean": str(values.mean()) if with_critic else "",
        "value_std": str(values.std()) if with_critic else "",
        "observations": json.dumps([observations.min(0).tolist(), observations.max(0).tolist()]),
    }


def _rows(trial: Trial) -> Sequence[Row]:
    exports = [Row(f"ONNX {one.precision}", one.returns, one.agreement, len(one.content)) for one in trial.exports]
    return [Row("checkpoint", trial.returns, None, None), *exports]
