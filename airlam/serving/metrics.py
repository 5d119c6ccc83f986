"""What Prometheus reads from a replica."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sized

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from airlam.serving.lanes import Lane, Work

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
SIZES = (1, 2, 4, 8, 16, 32, 64)

FORGOTTEN_S = 600.0  # after which a worker of which nothing was heard is told of no more

Workers = dict[tuple[str, str], Work]
"""What the threads of replicas without HTTP did when they answered last, by replica and name of the thread."""


class Metrics:
    """Counters of one replica, in a registry of its own.

    Example:
        >>> metrics = Metrics()
        >>> metrics.seen("/v1/predict/{model}", 200, 0.004)
        >>> b'airlam_requests_total{route="/v1/predict/{model}",status="200"} 1.0' in metrics.text()
        True
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = self._made(Counter, "requests", "requests answered", ["route", "status"])
        self._seconds = self._made(
            Histogram, "request_seconds", "from the request's head to the end of its answer", ["route"], buckets=SECONDS
        )
        self._passes = self._made(Histogram, "pass_requests", "requests that shared a pass", buckets=SIZES)
        self._late = self._made(Counter, "classic_answers", "answers of the classic for a deadline", ["model"])
        self._pushes = self._made(Counter, "session_slots", "slots of sessions, by what was done", ["kind"])

    def _made(self, kind: type, name: str, text: str, labels: list[str] | None = None, **options):
        return kind(f"airlam_{name}", text, labels or [], registry=self.registry, **options)

    def watch(self, lane: Lane) -> None:
        """A thread's queue and the seconds that it computed; the rate of those is its utilisation."""
        waiting = self._made(Gauge, f"{lane.name}_waiting", f"requests that wait for {lane.name} or run")
        waiting.set_function(lambda: lane.waiting)
        busy = self._made(Gauge, f"{lane.name}_busy_seconds", f"seconds that {lane.name} computed")
        busy.set_function(lambda: lane.busy_s)

    def watch_workers(self, workers: Workers) -> None:
        """Threads of other replicas, as their answers told it."""
        self.registry.register(_Told(workers))

    def watch_sessions(self, sessions: Sized) -> None:
        self._made(Gauge, "sessions", "sessions that live on this replica").set_function(lambda: len(sessions))

    def seen(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def passed(self, jobs: int) -> None:
        self._passes.observe(jobs)

    def late(self, model: str) -> None:
        self._late.labels(model).inc()

    def pushed(self, kind: str) -> None:
        self._pushes.labels(kind).inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Told(Collector):
    """Made anew at each reading, since workers come and go."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        labels = ["lane", "replica"]
        waiting = GaugeMetricFamily("airlam_worker_waiting", "requests that wait or run, as last told", labels=labels)
        busy = GaugeMetricFamily("airlam_worker_busy_seconds", "seconds computed, as last told", labels=labels)
        for (replica, lane), work in list(self._workers.items()):
            if time.time() - work.at_s <= FORGOTTEN_S:
                waiting.add_metric([lane, replica], work.waiting)
                busy.add_metric([lane, replica], work.busy_s)
        yield waiting
        yield busy
