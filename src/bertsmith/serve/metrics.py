"""What Prometheus may read. Labels have few values: routes are those that exist, never what was asked for."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from bertsmith.serve.batching import Batch

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_POWERS = tuple(2**n for n in range(15))


class Metrics:
    """Counters of one server. Names that begin with `te_` are those of text-embeddings-inference."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # A counter by nature, but the library would end its name in _total, and dashboards know it without.
        self._requests = Gauge(
            "te_request_count", "Requests, by route and status", ["route", "status"], registry=self.registry
        )
        self._duration = Histogram(
            "te_request_duration", "Seconds until an answer", ["route"], buckets=_SECONDS, registry=self.registry
        )
        self._queued = Histogram(
            "te_request_queue_duration", "Seconds in the queue", buckets=_SECONDS, registry=self.registry
        )
        self._batch_texts = Histogram("te_batch_next_size", "Texts a batch", buckets=_POWERS, registry=self.registry)
        self._batch_tokens = Histogram(
            "te_batch_next_tokens", "Tokens a batch", buckets=_POWERS, registry=self.registry
        )
        self._batch_seconds = Histogram(
            "te_batch_inference_duration", "Seconds a batch", ["service"], buckets=_SECONDS, registry=self.registry
        )
        self._tokens = Counter("bertsmith_tokens", "Tokens that were read", ["route"], registry=self.registry)
        self._truncated = Counter("bertsmith_truncated_texts", "Texts that were cut", ["route"], registry=self.registry)
        self._of: dict[tuple[str, int], tuple[Gauge, Histogram]] = {}
        self._dropped = Counter("bertsmith_dropped_requests", "Requests whose client had left", registry=self.registry)

    def watch(self, requests: Callable[[], float], tokens: Callable[[], float], rate: Callable[[], float]) -> None:
        """Gauges that are read when they are asked for."""
        for name, text, read in (
            ("te_queue_size", "Requests that wait or are worked on", requests),
            ("bertsmith_queue_tokens", "Tokens that wait or are worked on", tokens),
            ("bertsmith_tokens_per_second", "What the latest batches reached", rate),
        ):
            Gauge(name, text, registry=self.registry).set_function(read)

    def batch(self, batch: Batch) -> None:
        """Count one."""
        self._batch_texts.observe(batch.texts)
        self._batch_tokens.observe(batch.tokens)
        self._batch_seconds.labels(batch.service).observe(batch.seconds)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one that was answered."""
        if (found := self._of.get((route, status))) is None:  # finding them costs more than counting
            found = self._of[route, status] = self._requests.labels(route, str(status)), self._duration.labels(route)
        count, duration = found
        count.inc()
        duration.observe(seconds)

    def worked(self, route: str, tokens: int, truncated: int, queued: float) -> None:
        """Count what the model did for one."""
        self._tokens.labels(route).inc(tokens)
        self._truncated.labels(route).inc(truncated)
        self._queued.observe(queued)

    def dropped(self) -> None:
        """Count one whose client left."""
        self._dropped.inc()

    def text(self) -> bytes:
        """In Prometheus' format."""
        return generate_latest(self.registry)
