"""What the server counts, as Prometheus text."""

import math
import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from workers.serving.model import Model
from workers.serving.served import Served

SECONDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
BATCHES = (1, 4, 16, 64, 256, 1024, 4096)
SPAN = 10_000  # values that the moving mean and deviation are of
PENDING = 256  # requests that are worked through at once
disable_created_metrics()  # type: ignore[no-untyped-call]  # a time stamp beside each counter, which nobody asked for


class Recent:
    """Mean and standard deviation of about the last SPAN values; those before them fade away."""

    def __init__(self) -> None:
        self.count, self.mean, self._square = 0, 0.0, 0.0

    @property
    def std(self) -> float:
        return math.sqrt(max(self._square - self.mean**2, 0.0))

    def add(self, values: NDArray[np.float32]) -> None:
        """Values [B], the newest last."""
        numbers = values[-SPAN:].astype(np.float64)
        self.count = min(self.count + len(numbers), SPAN)
        share = len(numbers) / self.count
        self.mean += share * (float(numbers.mean()) - self.mean)
        self._square += share * (float((numbers**2).mean()) - self._square)


class Seen:
    """What one model was asked and said; worked through many requests at a time, for the arithmetic is all overhead."""

    def __init__(self, model: Model):
        self.model, self.values, self.outside = model, Recent(), 0
        self._pending: list[tuple[NDArray[np.float32], NDArray[np.float32] | None]] = []

    def add(self, observations: NDArray[np.float32], values: NDArray[np.float32] | None) -> None:
        self._pending.append((observations, values))
        if len(self._pending) >= PENDING:
            self.digest()

    def digest(self) -> None:
        """Count what was added."""
        if not self._pending:
            return
        observations = np.concatenate([observations for observations, _ in self._pending])
        values = [values for _, values in self._pending if values is not None]
        self._pending.clear()
        if values:
            self.values.add(np.concatenate(values))
        facts = self.model.facts
        beyond = (observations < np.array(facts.lowest, np.float32)) | (
            observations > np.array(facts.highest, np.float32)
        )
        self.outside += int(beyond.any(-1).sum())


class Metrics(Collector):
    """The counts of one server. Any thread may count."""

    def __init__(self, served: Served):
        self.registry = CollectorRegistry()
        self._served = served
        self._requests = Counter(
            "a3c_requests", "Requests by path and status of their answer.", ["path", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "a3c_act_seconds",
            "From the arrival of a whole request to /act to its answer.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._batches = Histogram(
            "a3c_act_observations",
            "Observations of a request to /act that was answered.",
            buckets=BATCHES,
            registry=self.registry,
        )
        self._lock = threading.Lock()
        self._seen = Seen(served.model)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def request(self, path: str, status: str, seconds: float) -> None:
        """Count a request that was answered, however."""
        self._requests.labels(path, status).inc()
        if path == "/act" and status == "200":
            self._seconds.observe(seconds)

    def refusal(self, status: str) -> None:
        """Count what never was a request to any path."""
        self._requests.labels("malformed", status).inc()

    def answers(self, model: Model, observations: NDArray[np.float32], values: NDArray[np.float32] | None) -> None:
        """Count what a model was asked, [B, O], and its values, [B]; with a new model these begin anew."""
        self._batches.observe(len(observations))
        with self._lock:
            if model is not self._seen.model:  # a request under way while the model changes may do so twice
                self._seen = Seen(model)
            self._seen.add(observations, values)

    def text(self) -> bytes:
        """All of it, in the text format of Prometheus."""
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        """What is read when it is asked for."""
        served, facts = self._served, self._served.model.facts
        yield CounterMetricFamily("a3c_reloads", "Changed models that took over.", value=served.reloads)
        yield CounterMetricFamily("a3c_refused_reloads", "Changed models that were refused.", value=served.refused)
        model = GaugeMetricFamily(
            "a3c_model", "The model that answers; always 1.", labels=["env_id", "precision", "checkpoint_sha256"]
        )
        model.add_metric([facts.env_id, facts.precision, facts.checkpoint_sha256], 1)
        yield model
        yield from self._drift()

    def _drift(self) -> Iterator[Metric]:
        with self._lock:
            self._seen.digest()
            facts, values, outside = self._seen.model.facts, self._seen.values, self._seen.outside
            count, mean, std = values.count, values.mean, values.std
        yield GaugeMetricFamily(
            "a3c_observations_outside",
            "Observations given to this model that lie beyond what its export's check saw.",
            value=outside,
        )
        if not count:
            return
        yield GaugeMetricFamily("a3c_value_mean", f"Mean of about the last {SPAN} values given.", value=mean)
        yield GaugeMetricFamily("a3c_value_std", "Standard deviation of the same values.", value=std)
        if facts.value_mean is not None and facts.value_std:
            drift = (mean - facts.value_mean) / facts.value_std
            yield GaugeMetricFamily(
                "a3c_value_drift",
                "How far that mean is from the one of the export's check, in "
                "standard deviations of the check's values.",
                value=drift,
            )
