"""The server's paths and metrics; every refusal is one JSON object, {"error": "one line"}."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as PROMETHEUS
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from werkzeug.exceptions import HTTPException

from workers.serving.metadata import ACTIONS, NEXT_STATE, VALUES, Metadata
from workers.serving.requests import BODY_LIMIT, SESSION, RequestError, read_request
from workers.serving.sessions import SESSION_SCHEMA, Sessions, new_name

if TYPE_CHECKING:
    from workers.serving.server import Served

FOLDER = Path(__file__).parent
JSON = "application/json"
SINGULAR = {ACTIONS: "action", VALUES: "value"}  # of the fields of an answer
PAGE_HEADERS = {  # the page needs this server and nothing else
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
SECONDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
BATCHES = (1, 4, 16, 64, 256, 1024, 4096)
ENCODER = json.JSONEncoder(allow_nan=False, check_circular=False)
disable_created_metrics()  # type: ignore[no-untyped-call]  # a time stamp beside each counter


class Metrics(Collector):
    """The counts of one server, as Prometheus has them. Any thread may count."""

    def __init__(self, served: "Served", sessions: Sessions):
        self.served, self.sessions, self.registry = served, sessions, CollectorRegistry()
        self.requests = Counter("a3c_requests", "Answers by path and status.", ["path", "status"], registry=None)
        self.seconds = Histogram("a3c_act_seconds", "Seconds of answering /act.", buckets=SECONDS, registry=None)
        self.batches = Histogram("a3c_act_observations", "Observations of a request.", buckets=BATCHES, registry=None)
        for collector in (self, self.requests, self.seconds, self.batches, ProcessCollector(registry=None)):
            self.registry.register(collector)

    def collect(self) -> Iterator[Metric]:
        """What is read when it is asked for."""
        served, metadata = self.served, self.served.model.metadata
        yield CounterMetricFamily("a3c_reloads", "Changed models that took over.", value=served.reloads)
        yield CounterMetricFamily("a3c_refused_reloads", "Changed models that were refused.", value=served.refused)
        yield GaugeMetricFamily("a3c_sessions", "Episodes of a recurrent policy.", value=len(self.sessions))
        labels = {name: getattr(metadata, name) for name in ("env_id", "precision", "checkpoint_sha256")}
        model = GaugeMetricFamily("a3c_model", "The model that answers; always 1.", labels=list(labels))
        model.add_metric(list(labels.values()), 1)
        yield model


def create_app(served: "Served") -> Flask:
    """The Flask application of a server."""
    sessions = Sessions()
    app, metrics = Flask(__name__, static_folder=None), Metrics(served, sessions)
    app.config.update(PROVIDE_AUTOMATIC_OPTIONS=False, MAX_CONTENT_LENGTH=BODY_LIMIT)
    app.url_map.merge_slashes = False  # no redirects: a path is right or wrong
    document = (FOLDER / "openapi.json").read_bytes()
    add = app.add_url_rule
    add("/", "page", _file("page.html", "text/html"))
    add("/page.js", "script", _file("page.js", "text/javascript"))
    add("/hello", "hello", lambda: _json({"hello": "world"}))
    add("/healthz", "health", lambda: _json({"status": "ok", "model": asdict(served.model.metadata)}))
    add("/metrics", "metrics", lambda: Response(generate_latest(metrics.registry), content_type=PROMETHEUS))
    add("/openapi.json", "openapi", lambda: _json(_describe(json.loads(document), served.model.metadata)))

    @app.post("/act")
    def act() -> Response:
        if request.mimetype != JSON:
            raise RequestError(415, f"Content-Type: expected {JSON}")
        model = served.model  # once: it may be another one the next moment
        interface = model.metadata.interface
        asked = read_request(request.get_data(cache=False), interface, model.metadata.is_recurrent)
        observations, single = asked.observations, asked.single
        state = sessions.state(asked.session, model, len(observations))
        columns = model.answer(observations, state)
        following = columns.pop(NEXT_STATE, None)
        try:
            answers = {name: column.tolist() for name, column in columns.items()}
            answers[ACTIONS] = interface.written(columns[ACTIONS])
            if single:
                answers = {SINGULAR.get(name, name): rows[0] for name, rows in answers.items()}
            session = asked.session or new_name()
            text = ENCODER.encode(answers if following is None else {**answers, SESSION: session})
        except ValueError:
            raise RequestError(422, "observation: too large for this network, whose answer is not finite") from None
        if following is not None:
            sessions.keep(session, model, following)
        metrics.batches.observe(len(observations))
        return Response(text, content_type=JSON)

    @app.errorhandler(RequestError)
    def refuse_request(error: RequestError) -> Response:
        return _json({"error": str(error)}, error.status)

    @app.errorhandler(HTTPException)
    def refuse(error: HTTPException) -> Response:
        """What Flask itself refuses: a path, a method, a size; and 500 where our own code breaks, which it logs."""
        line = f"{request.method} {request.path}: {error.name.lower()}; see /openapi.json"
        response = _json({"error": line}, error.code or 500)
        response.headers.extend((name, text) for name, text in error.get_headers() if name == "Allow")
        return response

    paths = {rule.rule for rule in app.url_map.iter_rules()}

    @app.before_request
    def start_clock() -> None:
        g.began = time.perf_counter()

    @app.after_request
    def count(response: Response) -> Response:
        path = request.path if request.path in paths else "other"
        metrics.requests.labels(path, str(response.status_code)).inc()
        if path == "/act" and response.status_code == 200:
            metrics.seconds.observe(time.perf_counter() - g.began)
        return response

    return app


def _describe(document: dict[str, Any], metadata: Metadata) -> dict[str, Any]:
    """The OpenAPI document of any policy, for one model."""
    document["info"].update(title=f"A3C policy for {metadata.env_id}", version=metadata.checkpoint_sha256[:12])
    schemas, name = document["components"]["schemas"], metadata.outputs[0]
    schemas.update(metadata.interface.schemas())
    for answer in (schemas["OneAnswer"], schemas["ManyAnswers"]):
        answer["properties"][name] = answer["properties"].pop("distribution")
        answer["required"].append(name)
    for asked, answered in (("One", "OneAnswer"), ("Many", "ManyAnswers")) if metadata.is_recurrent else ():
        for schema in (schemas[asked], schemas[answered]):
            schema["properties"][SESSION] = SESSION_SCHEMA
        schemas[answered]["required"].append(SESSION)
    if not metadata.is_recurrent:
        del document["paths"]["/act"]["post"]["responses"]["410"]
    schemas["One"]["example"] = {"observation": metadata.interface.example()}
    return document


def _file(name: str, kind: str) -> Callable[[], Response]:
    content = (FOLDER / name).read_bytes()
    return lambda: Response(content, headers=PAGE_HEADERS, content_type=f"{kind}; charset=utf-8")


def _json(value: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(value), status, content_type=JSON)
