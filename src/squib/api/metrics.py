"""Prometheus gauges of one API process, in a registry of its own: counts and times, never a task's content."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

#: What `/metrics` is sent as.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The gauges; `render` shows them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "squib_http_requests", "Requests answered", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "squib_http_request_seconds",
            "From the request to the start of its answer",
            ("route",),
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
            registry=self.registry,
        )
        self.streams = Gauge("squib_event_streams", "Event streams open now", registry=self.registry)
        self.terminals = Gauge("squib_terminals", "Terminal WebSockets open now", registry=self.registry)
        self.tasks = Gauge("squib_tasks", "Tasks by state", ("state",), registry=self.registry)

    def render(self, tasks: dict[str, int]) -> bytes:
        """All of them as text, with this many tasks in each state."""
        self.tasks.clear()
        for state, count in tasks.items():
            self.tasks.labels(state).set(count)
        return generate_latest(self.registry)
