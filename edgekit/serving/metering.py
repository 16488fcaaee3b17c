"""What a server counts of itself, as Prometheus reads it."""

from __future__ import annotations

__all__ = ["Meters"]

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Meters:
    """Counters of one server, in a registry of their own. Safe from several threads.

    Attributes:
        requests: Inference requests that came in, by model ("" for one that is unknown) and protocol.
        errors: Those that were refused, by model, protocol and kind, a key of `STATUSES`.
        seconds: From a request's arrival to its answer.
        queue_seconds: Of that waiting for a thread.
        compute_seconds: Of that in a thread: reading the tensors, the engine, writing the answer.
        in_flight: Requests that have arrived and are not answered yet.
        ready: By model, 1 when it is loaded and has passed its golden test.
    """

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

        registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=registry)
        self._registry = registry
        by = ("model", "protocol")
        self.requests = Counter("edgekit_requests", "Inference requests.", by, registry=registry)
        self.errors = Counter("edgekit_errors", "Requests that were refused.", (*by, "kind"), registry=registry)
        self.seconds = Histogram(
            "edgekit_request_seconds", "Arrival to answer.", by, buckets=_SECONDS, registry=registry
        )
        self.queue_seconds = Histogram(
            "edgekit_queue_seconds", "Waiting for a thread.", ("model",), buckets=_SECONDS, registry=registry
        )
        self.compute_seconds = Histogram(
            "edgekit_compute_seconds", "In a thread.", ("model",), buckets=_SECONDS, registry=registry
        )
        self.in_flight = Gauge("edgekit_in_flight", "Requests being worked on or waiting.", registry=registry)
        self.ready = Gauge("edgekit_model_ready", "Loaded and tested.", ("model",), registry=registry)

    def text(self) -> tuple[bytes, str]:
        """The page of `/metrics` and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST
