"""`export`: a checkpoint's policy as an ONNX file, written once its check has shown that it is the same policy."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from a3c.actors import Policy
from a3c.checkpoint import Checkpoint
from a3c.config import CheckpointError, ConfigError
from a3c.environments import EnvironmentSpec
from a3c.evaluation import Acting, Returns, evaluate
from a3c.files import write_durably
from workers.console.drawing import Frame
from workers.console.text import UNKNOWN, Line, clean, number, plural
from workers.extras import require
from workers.playing.evaluating import load
from workers.processes.preflight import environment_output
from workers.runs.program import command
from workers.serving.interface import with_info_mask
from workers.serving.metadata import Metadata
from workers.serving.verify import BATCHES, Agreement, Array, ModelPlayer, compare, real_observations

PACKAGES = ("onnx", "onnxruntime", "onnxscript")  # the extra `export`


class Export(NamedTuple):
    """A policy as the content of a file that is not on disk yet, and how it did beside its checkpoint."""

    metadata: Metadata
    content: bytes
    agreement: Agreement
    returns: Returns


def export_policy(
    path: str,
    output: str | None,
    int8: bool,
    with_critic: bool,
    episodes: int,
    seed: int,
    env: str | None = None,
    quiet: bool = False,
) -> list[Path]:
    """Export a policy once its check has shown that it is the checkpoint's; the paths of the files, fp32 first.

    Args:
        path: a run directory or a checkpoint's manifest.
        output: the file; default: RUN_DIR/policy.onnx, or the manifest's name with the ending .onnx beside it.
        int8: in both precisions: the int8 version of policy.onnx is policy-int8.onnx.
        with_critic: values as a third output.
        episodes, seed: of the check.
        env: the id by which its environment is found; default: the checkpoint's own.
        quiet: print neither the table nor what to do next.
    """
    require("export", "export", PACKAGES)
    with environment_output():
        checkpoint, environment = load(path, env)
        paths = _paths(Path(path), output, int8)
        returns, exports = _try(checkpoint, environment, int8, with_critic, episodes, seed)
    console = Console(quiet=quiet)
    console.print(_table(checkpoint, returns, exports), soft_wrap=True)
    _check(checkpoint, returns, exports)
    for export, place in zip(exports, paths, strict=True):
        write_durably(place, export.content)
    lines: list[Line] = [[], *([("  written  ", "dim"), (clean(str(place)), "")] for place in paths)]
    lines += [[], [("  next", "dim")], [(f"  {command('serve', clean(str(paths[-1])))}", "bold")]]
    console.print(Frame(lines), soft_wrap=True)
    return paths


def _paths(path: Path, output: str | None, int8: bool) -> list[Path]:
    """Where the files are written, one per precision; refused before anything takes time."""
    default = path / "policy.onnx" if path.is_dir() else path.with_suffix(".onnx")
    first = default if output is None else Path(output)
    paths = [first, first.with_stem(f"{first.stem}-int8")] if int8 else [first]
    for place in paths:
        if place.suffix != ".onnx" or place.is_dir():
            raise ConfigError(f"output: must name a file that ends in .onnx, got '{place}'")
    if not os.access(first.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"output: '{first.parent}' is no directory that can be written to; change --output")
    return paths


def _try(
    checkpoint: Checkpoint, environment: EnvironmentSpec, int8: bool, with_critic: bool, episodes: int, seed: int
) -> tuple[Returns, list[Export]]:
    """Export a checkpoint in memory; its returns, and what each export does."""
    from workers.serving.graph import int8_graph, policy_graph, serialize
    from workers.serving.model import parse_model

    def returns(actions: Acting, restart: Callable[[int], None]) -> Returns:
        result = evaluate(actions, environment, episodes, seed, restart=restart)
        assert result is not None  # nobody cancels it
        return result

    policy = Policy(checkpoint.model)
    observations, states = real_observations(policy, environment, seed)
    metadata = _metadata(checkpoint, environment, observations, with_critic, seed)
    graphs = {"fp32": policy_graph(checkpoint.model, metadata)}
    if int8:
        graphs["int8"] = int8_graph(graphs["fp32"])
    exports = []
    for precision, graph in graphs.items():
        own = replace(metadata, precision=precision)
        content = serialize(graph, own)
        try:
            model = parse_model(content)
        except ValueError as error:
            raise CheckpointError(f"{checkpoint.path}: its {precision} export cannot be used: {error}") from error
        player = ModelPlayer(model, policy)
        returned = returns(player.greedy, player.restart)
        exports.append(Export(own, content, compare(model, policy, observations, states), returned))
    return returns(policy.actions, policy.restart), exports


def _metadata(
    checkpoint: Checkpoint, environment: EnvironmentSpec, observations: Array, with_critic: bool, seed: int
) -> Metadata:
    """What a consumer has to know; `observations` are those of the check."""
    manifest, target = checkpoint.manifest, checkpoint.manifest.get("target_return")
    observed = environment.spaces["observation_space"]
    if environment.observation.info_mask:
        observed = with_info_mask(observed, checkpoint.model.head.outputs)
    return Metadata(
        env_id=environment.env_id,
        observation_space=observed,
        action_space=environment.spaces["action_space"],
        precision="fp32",
        critic=with_critic,
        checkpoint_sha256=manifest["weights"]["sha256"],
        updates=manifest["updates"],
        env_steps=manifest.get("env_steps"),
        max_episode_steps=checkpoint.max_episode_steps,
        target_return=float(target) if isinstance(target, int | float) else None,
        seed=seed,
        lowest=tuple(_numbers(checkpoint, observations.min(0))),
        highest=tuple(_numbers(checkpoint, observations.max(0))),
        state_size=checkpoint.model.state_size,
    )


def _numbers(checkpoint: Checkpoint, observation: Array) -> list[float]:
    """Those of an observation that are of no image."""
    spec, flat = checkpoint.model.observation, observation.reshape(-1)
    return [*flat[: spec.numbers].tolist(), *flat[spec.size :].tolist()]


def _check(checkpoint: Checkpoint, returns: Returns, exports: list[Export]) -> None:
    """Refuse fp32 that differs from the checkpoint by more than rounding, and int8 that misses a target it reaches."""
    agreement, path, last = exports[0].agreement, checkpoint.path, exports[-1]
    if not agreement.exact:
        others = agreement.observations - agreement.same
        raise CheckpointError(
            f"{path}: its export is another policy: another action on {others:,} of {agreement.observations:,} "
            f"observations, probabilities that differ by up to {agreement.difference:.1e}; nothing was written; "
            f"install {', '.join(PACKAGES)} as in constraints.txt"
        )
    own, mean, target = returns.statistics()["mean"], last.returns.statistics()["mean"], last.metadata.target_return
    if last.metadata.precision == "int8" and target is not None and mean < target <= own:
        raise CheckpointError(
            f"{path}: as int8 it misses its target: mean return {mean:.1f} of {target:g}, where the checkpoint has "
            f"{own:.1f}; nothing was written; export it without --int8"
        )


def _table(checkpoint: Checkpoint, returns: Returns, exports: list[Export]) -> Frame:
    """How the checkpoint and its exports did."""
    about, first = exports[0].metadata, exports[0].agreement
    titles = ["policy", "mean", "std", "min", "max", "agreement", "off by", *(["value off"] * about.critic), "file"]
    rows = [titles, ["checkpoint", *map(number, returns.statistics().values()), *[UNKNOWN] * (3 + about.critic)]]
    for export in exports:
        agreement = export.agreement
        same = f"{100 * agreement.same / agreement.observations:.2f} %"
        differences = [agreement.difference, *([agreement.value_difference or 0.0] * about.critic)]
        cells = [same, *(f"{difference:.1e}" for difference in differences), f"{len(export.content) / 1000:,.1f} kB"]
        rows.append([f"ONNX {export.metadata.precision}", *map(number, export.returns.statistics().values()), *cells])
    name, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    head, *body = ("  ".join([f"{row[0]:<{name}}", *map(str.rjust, row[1:], widths)]) for row in rows)
    episodes, batches = plural(len(returns.returns), "greedy episode"), ", ".join(map(str, BATCHES))
    notes = [
        f"Returns of {episodes}; agreement of greedy actions, and the largest",
        f"differences, on {first.observations:,} observations of greedy, sampled and random play, asked",
        f"in batches of {batches}. Seed {about.seed}.",
    ]
    if first.ties:
        notes.append(f"On {plural(first.ties, 'observation')} two actions of the checkpoint are equally good.")
    title: Line = [(clean(about.env_id), "bold"), (f"   {clean(str(checkpoint.path))}", "dim")]
    table: list[Line] = [title, [], [(head, "dim")], *([(row, "")] for row in body), []]
    return Frame([*table, *([(f"  {note}", "dim")] for note in notes)])
