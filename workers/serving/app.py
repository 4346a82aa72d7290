"""The server's paths, and the one form of all refusals: {"error": "one line"}."""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flask import Flask, Response, request
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from werkzeug.exceptions import HTTPException

from workers.serving.metrics import Metrics
from workers.serving.model import Answers
from workers.serving.openapi import JSON, describe
from workers.serving.requests import RequestError, read_request
from workers.serving.served import Served

FOLDER = Path(__file__).parent
PAGE_HEADERS = {  # the page needs this server and nothing else
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
SINGULAR = {"actions": "action", "probabilities": "probabilities", "values": "value"}
ENCODER = json.JSONEncoder(allow_nan=False, check_circular=False)
Environ = dict[str, Any]
StartResponse = Callable[..., Any]


class Routes:
    """What is answered at each path."""

    def __init__(self, served: Served, metrics: Metrics):
        self._served, self._metrics = served, metrics
        self._page, self._script = ((FOLDER / name).read_bytes() for name in ("page.html", "page.js"))

    def act(self) -> Response:
        if request.mimetype != JSON:
            raise RequestError(415, f"Content-Type: expected {JSON}")
        model = self._served.model  # once: it may be another one the next moment
        asked = read_request(request.get_data(cache=False), model.facts.observation_size)
        answers = model.answer(asked.observations)
        try:
            text = ENCODER.encode(_fields(answers, asked.single))
        except ValueError:
            raise RequestError(422, "observation: too large for this network, whose answer is not finite") from None
        self._metrics.answers(model, asked.observations, answers.values)
        return Response(text, content_type=JSON)

    def health(self) -> Response:
        return _json({"status": "ok", "model": asdict(self._served.model.facts)})

    def metrics(self) -> Response:
        return Response(self._metrics.text(), content_type=CONTENT_TYPE_PLAIN_0_0_4)

    def hello(self) -> Response:
        return _json({"hello": "world"})

    def description(self) -> Response:
        return _json(describe(self._served.model.facts))

    def page(self) -> Response:
        return Response(self._page, headers=PAGE_HEADERS, content_type="text/html; charset=utf-8")

    def script(self) -> Response:
        return Response(self._script, headers=PAGE_HEADERS, content_type="text/javascript; charset=utf-8")


def create_app(served: Served, metrics: Metrics) -> Flask:
    """The Flask application of a server."""
    app, routes = Flask(__name__, static_folder=None), Routes(served, metrics)
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False  # no redirects: a path is right or wrong
    app.add_url_rule("/act", view_func=routes.act, methods=["POST"])
    app.add_url_rule("/", view_func=routes.page)
    app.add_url_rule("/page.js", view_func=routes.script)
    app.add_url_rule("/healthz", view_func=routes.health)
    app.add_url_rule("/metrics", view_func=routes.metrics)
    app.add_url_rule("/hello", view_func=routes.hello)
    app.add_url_rule("/openapi.json", view_func=routes.description)
    app.register_error_handler(RequestError, _refuse_request)
    app.register_error_handler(HTTPException, _refuse)
    return app


class Counted:
    """A WSGI application with a stopwatch around it: what is counted is what was answered, whoever did."""

    def __init__(self, app: Flask, metrics: Metrics):
        self._app, self._metrics = app.wsgi_app, metrics
        self._paths = {rule.rule for rule in app.url_map.iter_rules()}

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        began, status = time.perf_counter(), "500"  # where the application itself breaks

        def noting(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            nonlocal status
            status = line[:3]
            return start_response(line, headers, exc_info)

        try:
            return self._app(environ, noting)
        finally:
            path = environ["PATH_INFO"]
            self._metrics.request(path if path in self._paths else "other", status, time.perf_counter() - began)


def _fields(answers: Answers, single: bool) -> dict[str, Any]:
    columns = {"actions": answers.actions.tolist(), "probabilities": answers.probabilities.tolist()}
    if answers.values is not None:
        columns["values"] = answers.values.tolist()
    return {SINGULAR[name]: rows[0] for name, rows in columns.items()} if single else columns


def _json(value: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(value), status, content_type=JSON)


def _refuse_request(error: RequestError) -> Response:
    return _json({"error": str(error)}, error.status)


def _refuse(error: HTTPException) -> Response:
    """What Flask itself refuses: a path, a method; and 500 where our own code breaks, which it has logged."""
    line = f"{request.method} {request.path}: {error.name.lower()}; see /openapi.json"
    response = _json({"error": line}, error.code or 500)
    response.headers.extend((name, text) for name, text in error.get_headers() if name == "Allow")
    return response
