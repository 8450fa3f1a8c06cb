"""Counters for Prometheus."""

import functools

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """One set a registry."""

    def __init__(self, registry: CollectorRegistry):
        self.claimed = Counter("squib_tasks_claimed", "Tasks claimed by this scheduler", registry=registry)
        self.ended = Counter("squib_tasks_ended", "Tasks ended, by state", ["state"], registry=registry)
        self.retries = Counter("squib_task_retries", "Attempts given up for a new one", registry=registry)
        self.working = Gauge("squib_tasks_working", "Tasks at work here, idle ones apart", registry=registry)
        self.saves = Counter("squib_saves", "Saves of a workspace, by outcome", ["outcome"], registry=registry)
        self.swept = Counter("squib_sandboxes_swept", "Orphaned sandboxes removed", registry=registry)
        self.suspended = Counter("squib_sandboxes_suspended", "Sandboxes put to disk", ["how"], registry=registry)
        self.events = Counter("squib_guest_events", "Events taken from guests", registry=registry)
        self.pump_lag = Histogram(
            "squib_pump_batch_events",
            "Events that waited for the store while it took the batch before",
            buckets=(1, 10, 100, 500, 1000, 4000),
            registry=registry,
        )


@functools.cache
def default_metrics() -> Metrics:
    """The process's own, made at first use on the registry that /metrics shows."""
    return Metrics(REGISTRY)
