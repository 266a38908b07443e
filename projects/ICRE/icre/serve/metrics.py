"""What Prometheus reads."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters of one service, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "icre_requests_total", "Answered requests", ["path", "status"], registry=registry
        )
        self._latency = Histogram(
            "icre_request_seconds",
            "From a request's begin to its answer",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._images = Histogram(
            "icre_batch_images",
            "Images that the model computed at once",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=registry,
        )
        self._model = Histogram(
            "icre_model_seconds", "The model, per batch", buckets=_SECONDS, registry=registry
        )
        self._search = Histogram(
            "icre_search_seconds", "The search, per batch", buckets=_SECONDS, registry=registry
        )
        self.active = Gauge("icre_active_requests", "Requests at this moment", registry=registry)
        self.gallery_images = Gauge(
            "icre_gallery_images", "Images of the gallery", registry=registry
        )
        self.gallery_version = Gauge(
            "icre_gallery_version", "Version of the gallery", registry=registry
        )
        self.refused_reloads = Counter(
            "icre_refused_reloads_total",
            "Versions on the disk that were not taken up",
            registry=registry,
        )

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(path, str(status)).inc()
        self._latency.labels(path).observe(seconds)

    def batch(self, images: int, seconds: float) -> None:
        """Count a batch of the model."""
        self._images.observe(images)
        self._model.observe(seconds)

    def search(self, seconds: float) -> None:
        """Count a search."""
        self._search.observe(seconds)

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)
