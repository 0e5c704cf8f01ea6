"""Requests, errors and latency of a model as Ray metrics (Prometheus shows them with the prefix `ray_`)."""

from typing import Protocol

BOUNDARIES = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]


class Meter(Protocol):
    """Takes note of each answered inference request."""

    def answered(self, status: int, seconds: float) -> None:
        """Note the HTTP status of an answer and the seconds between request and answer."""
        ...


class RayMeter:
    """Ray metrics with the labels `model` and `namespace`, and the HTTP status as `code` for requests."""

    def __init__(self, model: str, namespace: str) -> None:
        from ray.util.metrics import Counter, Histogram

        labels = {"model": model, "namespace": namespace}
        keys = tuple(labels)
        self._requests = Counter("eagleray_model_requests_total", "Inference requests answered.", (*keys, "code"))
        self._errors = Counter("eagleray_model_errors_total", "Inference requests answered with 4xx or 5xx.", (*keys, "code"))
        self._latency = Histogram(
            "eagleray_model_latency_seconds", "Seconds from an inference request to its answer.", BOUNDARIES, keys
        )
        for metric in (self._requests, self._errors, self._latency):
            metric.set_default_tags(labels)
        self._codes: dict[int, dict[str, str]] = {}

    def answered(self, status: int, seconds: float) -> None:
        """Note an answer."""
        code = self._codes.get(status)
        if code is None:
            code = self._codes[status] = {"code": str(status)}
        self._requests.inc(1, code)
        self._latency.observe(seconds)
        if status >= 400:
            self._errors.inc(1, code)
