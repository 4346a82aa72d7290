"""`serve`: what it answers, what it refuses, how it takes up a newer model, and how it ends."""

import http.client
import json
import os
import resource
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from a3c import load_policy
from a3c.config import CheckpointError
from tests.process.command import COMMAND, run, run_here
from tests.process.http_client import ServerProgram, received
from tests.process.onnx_models import (
    BALANCE,
    DIGEST,
    choice_space,
    linear_model,
    model_metadata,
    vector_space,
    write_model,
)
from tests.process.test_export import leaning, saved
from workers.serving.metadata import Metadata, read_metadata
from workers.serving.model import load_model
from workers.serving.requests import BODY_LIMIT

SolvedRun = tuple[Path, str, dict[str, Any]]
OBSERVATION = [0.1, -0.2, 0.03, 0.4]
ZEROS = {"observation": [0.0] * 4}
COMPLETE = b"Host: x\r\nContent-Type: application/json\r\nContent-Length: 29\r\n\r\n" + b'{"observation": [0, 0, 0, 0]}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProgram]:
    with ServerProgram(write_model(tmp_path_factory.mktemp("served") / "policy.onnx")) as program:
        yield program


def expected(observation: list[float]) -> tuple[int, list[float], float]:
    """What the hand-made model has to say: action, probabilities and value."""
    seen = np.array(observation, np.float32)
    logits = BALANCE @ seen
    weights = np.exp(logits - logits.max())
    return int(logits.argmax()), (weights / weights.sum()).tolist(), float(10 - seen @ seen)


# ---- answers


def test_one_observation_is_answered_in_the_singular(server: ServerProgram) -> None:
    status, answer = server.act({"observation": OBSERVATION})
    action, probabilities, value = expected(OBSERVATION)
    assert status == 200
    assert answer == {"action": action, "probabilities": pytest.approx(probabilities), "value": pytest.approx(value)}


def test_a_batch_is_answered_in_its_order(server: ServerProgram) -> None:
    rows = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32).tolist()
    status, answer = server.act({"observations": rows})
    assert status == 200
    assert set(answer) == {"actions", "probabilities", "values"}
    for i, row in enumerate(rows):
        action, probabilities, value = expected(row)
        assert answer["actions"][i] == action
        assert answer["probabilities"][i] == pytest.approx(probabilities, abs=1e-6)
        assert answer["values"][i] == pytest.approx(value, rel=1e-5)


def test_health_tells_the_models_facts(server: ServerProgram) -> None:
    status, health = server.ask("GET", "/healthz")
    assert (status, health["status"]) == (200, "ok")
    facts = health["model"]
    assert (facts["env_id"], facts["precision"], facts["checkpoint_sha256"]) == ("CartPole-v1", "fp32", DIGEST)
    assert (facts["updates"], facts["max_episode_steps"], facts["target_return"]) == (1234, 500, 475.0)


def test_the_start_says_what_is_served_and_how_to_ask_it(server: ServerProgram) -> None:
    lines = server.text.splitlines()
    assert lines[0] == "serving CartPole-v1"
    command = next(line.split("try", 1)[1].strip() for line in lines if "curl" in line)
    status, answer = server.curl(command)
    assert status == 200 and answer["action"] in (0, 1)


def test_metrics_count_requests_and_batches(tmp_path: Path) -> None:
    with ServerProgram(write_model(tmp_path / "policy.onnx")) as server:
        assert server.act(ZEROS)[0] == 200
        assert server.act({"observations": [[2.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]})[0] == 200
        assert server.act({"observation": []})[0] == 400
        assert server.ask("GET", "/nowhere")[0] == 404
        counts = {'path="/act",status="200"': 2, 'path="/act",status="400"': 1, 'path="other",status="404"': 1}
        for labels, count in counts.items():
            assert server.metric(f"a3c_requests_total{{{labels}}}") == count, labels
        assert server.metric("a3c_act_seconds_count") == 2
        assert server.metric('a3c_act_observations_bucket{le="1.0"}') == 1
        assert server.metric('a3c_act_observations_bucket{le="4.0"}') == 2
        assert server.metric(f'a3c_model{{checkpoint_sha256="{DIGEST}",env_id="CartPole-v1",precision="fp32"}}') == 1


# ---- refusals


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/act", 405),
        ("PUT", "/act", 405),
        ("OPTIONS", "/act", 405),
        ("POST", "/healthz", 405),
        ("GET", "/nothing", 404),
        ("GET", "/act/", 404),
        ("GET", "/page.html", 404),
    ],
)
def test_other_paths_and_methods_are_refused_in_json(
    server: ServerProgram, method: str, path: str, status: int
) -> None:
    found, answer = server.ask(method, path)
    assert found == status
    assert set(answer) == {"error"}


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"not json", {}, 400),
        ({"observation": [0, 0, 0]}, {}, 400),
        ({"observation": [3e38] * 4}, {}, 422),  # a finite observation, whose squares are none
        (ZEROS, {"Content_Type": "text/plain"}, 415),
        (ZEROS, {"Content_Type": ""}, 415),
        (b" " * (BODY_LIMIT + 1), {}, 413),
        (b"x" * (3 * BODY_LIMIT), {}, 413),
        ({"observations": [[0, 0, 0, 0]] * 4097}, {}, 413),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_requests_get_one_line_of_json(
    server: ServerProgram, body: Any, headers: dict[str, str], status: int
) -> None:
    found, answer = server.act(body, **headers)
    assert found == status, answer
    assert set(answer) == {"error"}
    assert answer["error"].isprintable()
    assert server.act(ZEROS)[0] == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\0\0\0\0\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\n\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nno header\r\n\r\n", 400),
        (b"POST /act HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /act HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n12345", 400),
        (b"POST /act HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", None),
        (b"POST /act HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST /act HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n", 400),
        (b"POST /act HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (b"POST /act HTTP/1.1\r\n" + COMPLETE.replace(b"29", b"28"), 400),  # a body longer than was said
        (b"POST /act HTTP/1.1\r\nHost: \xff\xfe\r\nContent-Length: 0\r\n\r\n", 415),
    ],
)
def test_what_is_no_http_is_refused_by_waitress_in_plain_text(
    server: ServerProgram, sent: bytes, status: int | None
) -> None:
    """Where its parser itself fails, it closes the connection; where it has not read all, the answer may be lost."""
    try:
        answer = server.raw(sent)
    except TimeoutError:
        raise
    except OSError:
        answer = b""
    assert not answer or int(answer.split(b" ", 2)[1]) == status, answer
    assert len(sent) > 5000 or bool(answer) == (status is not None)
    assert "Traceback" not in server.text and "exception" not in server.text
    assert server.act(ZEROS)[0] == 200


def test_a_body_that_never_comes_is_no_answer_and_no_harm(server: ServerProgram) -> None:
    assert server.raw(b"POST /act HTTP/1.1\r\n" + COMPLETE[:-1]) == b""
    assert server.act(ZEROS)[0] == 200


def test_chunked_and_pipelined_requests_are_answered(server: ServerProgram) -> None:
    chunked = COMPLETE.replace(b"Content-Length: 29", b"Transfer-Encoding: chunked")
    chunked = chunked.replace(b'{"observation"', b'1d\r\n{"observation"') + b"\r\n0\r\n\r\n"
    one = b"POST /act HTTP/1.1\r\n"
    answers = server.raw(one + COMPLETE + one + chunked + one + b"Connection: close\r\n" + COMPLETE, half_close=False)
    assert answers.count(b"HTTP/1.1 200 OK") == 3
    assert answers.count(b'"action": ') == 3


def test_a_thousand_connections_are_all_answered(server: ServerProgram) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1200:
        pytest.skip("this process may not open as many files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    try:
        with ExitStack() as stack:
            connections = [
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
                for _ in range(1000)
            ]
            for connection in connections:
                connection.sendall(b"POST /act HTTP/1.1\r\nConnection: close\r\n" + COMPLETE)
            statuses = {received(connection).split(b"\r\n", 1)[0] for connection in connections}
        assert statuses == {b"HTTP/1.1 200 OK"}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_connection_on_which_nothing_arrives_is_closed(tmp_path: Path) -> None:
    short = "import sys, workers.serving.server as server; server.IDLE_SECONDS = server.CLEANUP_SECONDS = 1; "
    command = [COMMAND[0], "-c", f"{short}import run_a3c; sys.exit(run_a3c.main())"]
    with (
        ServerProgram(write_model(tmp_path / "m.onnx"), command=command) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as half,
    ):
        half.sendall(b"POST /act HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc")
        assert received(half) == b""
        assert server.act(ZEROS)[0] == 200


def exporting(server: ServerProgram) -> list[psutil.Process]:
    """The server's children, but for the one that Python itself keeps once it has started any."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]


# ---- models


def test_a_model_as_exported_is_loaded(tmp_path: Path) -> None:
    metadata = load_model(write_model(tmp_path / "m.onnx", action_start=1, critic=False)).metadata
    assert metadata == model_metadata(4, 2, critic=False, action_start=1)
    (tmp_path / "link.onnx").symlink_to(tmp_path / "m.onnx")
    assert load_model(tmp_path / "link.onnx").metadata == metadata


def external(tensor: onnx.TensorProto, path: Path) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", path.name


def bad_models(folder: Path) -> Iterator[tuple[str, bytes]]:
    """What the refusal has to speak of, and the content of a file that deserves it."""
    (folder / "secret").write_bytes(bytes(32))
    yield "no ONNX model", b"\x08\x07\x12garbage" * 10
    yield "unknown origin", b""
    for said, entries in (
        ("unknown origin", {}),
        ("of format '1', but 3 is read", {"a3c.format": "1"}),
        ("a3c is", {"a3c": "[" * 50_000}),
        ("a3c is", {"a3c": "7"}),
        ("of format 'None'", {"a3c": "{}"}),
        ("lack updates", {"a3c": json.dumps({"format": 3, **asdict(model_metadata(4, 2))}).replace("updates", "x")}),
    ):
        model = linear_model()
        del model.metadata_props[:]
        helper.set_model_props(model, entries)
        yield said, model.SerializeToString()
    for name, value in (
        ("format", 2),
        ("env_id", ""),
        ("env_id", "a\nb"),
        ("env_id", 5),
        ("observation_space", 4.0),
        ("its spaces are damaged", {"observation_space": vector_space(4.0)}),
        ("its spaces are damaged", {"observation_space": vector_space("4")}),
        ("its spaces are damaged", {"observation_space": {"space": "Box"}}),
        ("of which there may be", {"observation_space": vector_space(2**40)}),
        ("of which there may be", {"observation_space": {"space": "Discrete", "n": 2**40, "start": 0}}),
        ("its spaces are damaged", {"action_space": choice_space(2, 2**63)}),
        ("unknown kind", {"action_space": {"space": "Text"}}),
        ("precision", None),
        ("critic", "yes"),
        ("critic", 1),
        ("updates", True),
        ("max_episode_steps", "500"),
        ("target_return", float("nan")),
        ("lowest", [1, 2]),
        ("lowest", 7),
        ("highest", [1, 1, 1, float("inf")]),
        ("highest", [1, 1, 1, "1"]),
    ):
        changed = value if isinstance(value, dict) else {name: value}
        yield name, linear_model(metadata=changed).SerializeToString()
    yield "unknown domain 'evil.ops'", linear_model(domain="evil.ops").SerializeToString()
    five = {"observation_space": vector_space(5), "lowest": [0.0] * 5, "highest": [0.0] * 5}
    yield "does not answer", linear_model(metadata=five).SerializeToString()
    for said, actions in (("damaged", 0), ("its answers to 1 observations are", 1), ("its answers to 1", 3)):
        yield said, linear_model(metadata={"action_space": choice_space(actions)}).SerializeToString()
    yield "not among", linear_model(metadata={"action_space": choice_space(2, 7)}).SerializeToString()
    yield "does not answer", linear_model(metadata={"critic": True}, critic=False).SerializeToString()
    yield "not finite", linear_model(np.full((2, 4), np.nan, np.float32)).SerializeToString()
    yield from bad_graphs(folder)


def bad_graphs(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Good metadata on a graph that is not what they promise."""
    model = linear_model()
    external(model.graph.initializer[0], folder / "secret")
    yield "external data", model.SerializeToString()
    model = linear_model()
    constant = numpy_helper.from_array(np.zeros((2, 4), np.float32))
    external(constant, folder / "secret")
    model.graph.initializer.pop(0)
    model.graph.node.insert(0, helper.make_node("Constant", [], ["weights"], value=constant))
    yield "external data", model.SerializeToString()
    model = linear_model()
    model.graph.node[0].attribute.append(helper.make_attribute("body", model.graph))
    yield "branches or loops", model.SerializeToString()
    model = linear_model()
    model.functions.append(helper.make_function("evil.fn", "F", [], [], [], [helper.make_opsetid("", 18)]))
    yield "unknown domain 'evil.fn'", model.SerializeToString()
    model = linear_model()
    model.graph.node[1].op_type = "Relu"
    del model.graph.node[1].attribute[:]
    yield "do not sum to 1", model.SerializeToString()
    model = linear_model()
    model.graph.node[2].op_type = "ArgMin"
    yield "not the most probable", model.SerializeToString()
    model = linear_model()
    model.graph.node[1].input[0] = "nowhere"
    yield "onnxruntime refuses it", model.SerializeToString()
    model = linear_model()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    yield "does not answer", model.SerializeToString()
    model = linear_model()
    model.graph.input[0].name = "x"
    for node in model.graph.node:
        node.input[:] = ["x" if name == "observations" else name for name in node.input]
    yield "does not answer", model.SerializeToString()


def test_models_that_no_export_has_made_are_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for number, (said, content) in enumerate(bad_models(tmp_path)):
        path.write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            load_model(path)
        line = str(caught.value)
        assert said in line, (number, line)
        assert line.startswith(f"{path}: ")
        assert line.isprintable()
        assert len(line) < len(str(path)) + 400


def test_a_model_that_is_too_large_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.truncate(2**29 + 1)
    with pytest.raises(CheckpointError, match="larger than"):
        load_model(path)


FLOATS = st.floats(-1e18, 1e18)


@given(
    st.builds(
        Metadata,
        env_id=st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=50),
        observation_space=st.just(vector_space(2)),
        action_space=st.builds(choice_space, st.integers(1, 9), st.integers(-9, 9)),
        lowest=st.tuples(FLOATS, FLOATS),
        highest=st.tuples(FLOATS, FLOATS),
        target_return=st.none() | FLOATS,
        precision=st.sampled_from(["fp32", "int8"]),
        checkpoint_sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
        **{
            name: st.integers(-(2**62), 2**62) | (st.none() if name.endswith("s") else st.nothing())
            for name in ("seed", "updates", "env_steps", "max_episode_steps")
        },
    )
)
def test_metadata_are_read_as_they_were_written(metadata: Metadata) -> None:
    assert read_metadata(metadata.entries()) == metadata


# ---- the command


def test_a_refused_model_ends_the_command_with_4_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    for path in (tmp_path / "m.onnx", tmp_path / "missing.onnx"):
        code, output = run_here("serve", path, "--port", 0)
        assert code == 4, output
        assert len(output.splitlines()) == 1
        assert output.startswith(f"run_a3c.py: error: {path}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--host", "no.such.host.invalid"), "host: "),
        (("--host", "192.0.2.1"), "host: "),
        (("--host", ""), "host: "),
        (("--int8",), "int8: "),
    ],
)
def test_what_cannot_be_followed_ends_the_command_with_2_and_one_line(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    code, output = run_here("serve", write_model(tmp_path / "m.onnx"), "--port", 0, *options)
    assert (code, len(output.splitlines())) == (2, 1), output
    assert output.startswith(f"run_a3c.py: error: {said}")


def test_a_port_in_use_is_one_line(server: ServerProgram, tmp_path: Path) -> None:
    code, output = run_here("serve", write_model(tmp_path / "m.onnx"), "--port", server.port)
    assert code == 2
    assert len(output.splitlines()) == 1
    assert output.startswith(f"run_a3c.py: error: port: {server.port} of 127.0.0.1 is in use; choose another"), output


def test_a_missing_extra_is_one_line_with_the_command_that_installs_it() -> None:
    script = "import sys; sys.modules['waitress'] = None; import run_a3c; sys.exit(run_a3c.main(['serve', 'm.onnx']))"
    code, output = run("-c", script, command=COMMAND[:1])
    assert code == 2
    assert output.splitlines() == [
        'run_a3c.py: error: serve: needs the packages of the extra "serve": '
        'pip install -c constraints.txt -e ".[serve]"'
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_0_and_a_line_though_clients_are_connected(tmp_path: Path, number: int) -> None:
    with (
        ServerProgram(write_model(tmp_path / "m.onnx"), "--threads", 2) as server,
        socket.create_connection(("127.0.0.1", server.port)) as idle,
        socket.create_connection(("127.0.0.1", server.port)) as half,
    ):
        half.sendall(b"POST /act HTTP/1.1\r\nContent-Length: 100\r\n\r\n")
        assert server.act(ZEROS)[0] == 200
        os.kill(server.process.pid, number)
        assert server.wait(20) == 0
        assert server.text.splitlines()[-1] == "stopped"
        assert "Traceback" not in server.text
        assert received(idle) == b""


# ---- reloads


def put(path: Path, **changes: Any) -> None:
    """Put another model in the place of one, in one step."""
    os.replace(write_model(path.with_suffix(".new"), **changes), path)


def test_a_changed_model_is_taken_up_only_where_it_passes_its_check(tmp_path: Path) -> None:
    path = write_model(tmp_path / "policy.onnx")
    with ServerProgram(path) as server:
        put(path, metadata={"checkpoint_sha256": "ab" * 32}, critic=False)
        server.until(lambda: "reloaded" in server.text)
        assert server.metric("a3c_reloads_total") == 1
        assert server.ask("GET", "/healthz")[1]["model"]["checkpoint_sha256"] == "ab" * 32
        assert "value" not in server.act(ZEROS)[1]
        for count, (said, spoil) in enumerate(
            {
                "no ONNX model": lambda: path.write_bytes(b"\x08\x07\x12garbage" * 10),
                "is for CartPole-v0": lambda: put(path, metadata={"env_id": "CartPole-v0"}),
                "no such run directory or model": path.unlink,
            }.items(),
            start=1,
        ):
            spoil()
            server.until(lambda said=said: f"the old model stays: {path}: {said}" in server.text)
            assert server.metric("a3c_refused_reloads_total") == count
            assert server.act(ZEROS)[0] == 200
        put(path)
        server.until(lambda: server.text.count("reloaded") == 2)
        assert server.metric("a3c_reloads_total") == 2
        assert server.text.count("the old model stays") == 3  # each once
        assert "value" in server.act(ZEROS)[1]


def test_no_answer_is_of_two_models(tmp_path: Path) -> None:
    """One model always pushes to the left and says so of the action, the other to the right, while both take turns."""
    left, right = (np.zeros((2, 4), np.float32) for _ in range(2))
    path = write_model(tmp_path / "policy.onnx", weights=left, metadata={"checkpoint_sha256": "0" * 64})
    seen = set()
    with ServerProgram(path) as server, closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
        body = json.dumps({"observations": [[1.0, 0, 0, 0]] * 100})
        left[:, 0], right[:, 0] = (2, 0), (0, 2)
        for weights in (left, right):
            put(path, weights=weights)
            reloads = server.text.count("reloaded")
            deadline, reloaded = time.monotonic() + 30, False
            while not reloaded:
                assert time.monotonic() < deadline
                reloaded = server.text.count("reloaded") > reloads  # then the answer that follows is the new model's
                connection.request("POST", "/act", body, {"Content-Type": "application/json"})
                answer = json.loads(connection.getresponse().read())
                best = {int(np.argmax(probabilities)) for probabilities in answer["probabilities"]}
                assert len(best) == len({tuple(row) for row in answer["probabilities"]}) == 1
                assert best == set(answer["actions"])
                seen |= best
    assert seen == {0, 1}


def test_a_run_is_exported_checked_and_served(tmp_path: Path) -> None:
    run_dir = saved(tmp_path / "run", "CartPole-v1", leaning(), 15.0)  # episodes of 20 steps
    observations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    with ServerProgram(run_dir, "--int8") as server:
        status, answer = server.act({"observations": observations.tolist()})
        assert status == 200
        assert np.mean(np.array(answer["actions"]) == load_policy(run_dir)(observations)) > 0.9
        assert server.ask("GET", "/healthz")[1]["model"]["precision"] == "int8"
        assert len(answer["values"]) == 50
        assert "torch" not in Path(f"/proc/{server.process.pid}/maps").read_text()
        assert not exporting(server)


@pytest.mark.long
def test_a_runs_new_best_is_taken_up_and_a_damaged_one_is_not(solved_run: SolvedRun, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(solved_run[0], run_dir)
    best = run_dir / "checkpoints" / "best.json"
    for other in best.parent.glob("latest*.json"):  # it would take the place of the damaged one
        other.unlink()
    with ServerProgram(run_dir) as server:
        whole = best.read_bytes()
        best.write_bytes(whole[:-10])
        server.until(lambda: "the old model stays" in server.text)
        assert server.act(ZEROS)[0] == 200
        best.write_bytes(whole)
        server.until(lambda: "reloaded" in server.text)
        assert server.metric("a3c_refused_reloads_total") == server.metric("a3c_reloads_total") == 1
        best.touch()  # a new export begins, and is ended with the server
        server.until(lambda: bool(exporting(server) and server.note_family()))
        os.kill(server.process.pid, signal.SIGINT)
        assert server.wait(20) == 0
        server.assert_nobody_left()
