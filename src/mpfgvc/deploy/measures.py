"""What the server counts, in the text form that Prometheus reads."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from mpfgvc.deploy.batcher import BatchDone

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Measures:
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "mpfgvc_requests", "Requests by route and status.", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "mpfgvc_request_seconds",
            "Seconds from the head of a request to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._photographs = Counter(
            "mpfgvc_photographs", "Photographs by outcome.", ["outcome"], registry=self._registry
        )
        self._batch = Histogram(
            "mpfgvc_batch_photographs", "Photographs in a batch.", buckets=_SIZES, registry=self._registry
        )
        self._model = Histogram(
            "mpfgvc_model_seconds", "Seconds of a batch.", buckets=_SECONDS, registry=self._registry
        )
        self._inside = Gauge(
            "mpfgvc_photographs_inside",
            "Photographs decoding, waiting or computing.",
            registry=self._registry,
        )

    def request(self, *, route: str, status: int, seconds: float) -> None:
        """Count a request; `route` is that of the table of routes, so that nobody can invent more."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, done: BatchDone) -> None:
        """Count a batch of the model."""
        self._batch.observe(done.size)
        self._model.observe(done.seconds)

    def photographs(self, *, answered: int = 0, unreadable: int = 0) -> None:
        """Count photographs that were answered, and those that could not be read."""
        self._photographs.labels("answered").inc(answered)
        self._photographs.labels("unreadable").inc(unreadable)

    def text(self, *, inside: int) -> bytes:
        """All of it; `inside` is the number of photographs now."""
        self._inside.set(inside)
        return generate_latest(self._registry)
