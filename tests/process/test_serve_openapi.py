"""The server does what its OpenAPI description says: requests of all kinds, generated from it."""

import sys
from pathlib import Path

from tests.process.command import run
from tests.process.http_client import ServerProgram
from tests.process.onnx_models import write_model

# A large number is allowed, and whether it is too large is a matter of the network: 422. Too many is too large: 413.
SETTINGS = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "422"]
[checks.negative_data_rejection]
expected-statuses = ["400", "405", "413", "415"]
"""


def test_every_answer_is_as_described(tmp_path: Path) -> None:
    with ServerProgram(write_model(tmp_path / "policy.onnx")) as server:
        ask_all(server, 100, tmp_path)


def ask_all(server: ServerProgram, examples: int, folder: Path) -> None:
    (folder / "schemathesis.toml").write_text(SETTINGS)
    description = f"http://127.0.0.1:{server.port}/openapi.json"
    options = ("--max-examples", examples, "--seed", 1, "--no-color")
    command = [sys.executable, "-m", "schemathesis.cli", "run", description]
    code, output = run(*options, command=command, cwd=folder)
    assert code == 0, output[:5000]
    assert server.metric('a3c_requests_total{path="/act",status="200"}') > 10
    assert server.metric('a3c_requests_total{path="/act",status="400"}') > 10
