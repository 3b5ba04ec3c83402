"""Figures for Prometheus: requests, runs, what they cost."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from rlm.serving.jobs import Jobs
from rlm.serving.types import RunRow


class Metrics:
    """The figures of one server, in a registry of its own."""

    def __init__(self, jobs: Jobs) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "rlm_requests", "Requests by route and status.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "rlm_request_seconds",
            "Seconds until a reply began.",
            ["route"],
            registry=registry,
            buckets=(0.01, 0.05, 0.25, 1, 5, 30, 120, 600),
        )
        self._runs = Counter("rlm_runs", "Runs by how they ended.", ["stop"], registry=registry)
        self._usd = Counter("rlm_usd", "Dollars that runs were charged.", registry=registry)
        self._tokens = Counter("rlm_tokens", "Tokens that runs used.", registry=registry)
        Gauge("rlm_jobs_running", "Jobs under way.", registry=registry).set_function(lambda: jobs.running)
        Gauge("rlm_jobs_waiting", "Jobs that wait for their turn.", registry=registry).set_function(
            lambda: jobs.waiting
        )

    def asked(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def ran(self, run: RunRow) -> None:
        """Count a run that has ended."""
        self._runs.labels(run.stop or "").inc()
        self._usd.inc(run.usd)
        self._tokens.inc(run.tokens)

    def text(self) -> bytes:
        """All figures as Prometheus reads them."""
        return generate_latest(self._registry)
