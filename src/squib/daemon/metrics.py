"""Prometheus gauges of one daemon: counts and times, nothing of a sandbox's."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from squib.contracts.host import HostStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)


class Metrics:
    """The gauges; `render` shows them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "squib_host_requests", "Requests answered", ("route", "method", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "squib_host_request_seconds",
            "From a request to the start of its answer",
            ("route", "method"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._machines = self._gauge("squib_host_machines", "Machines by state", "state")
        self._ready = self._gauge("squib_host_ready", "Machines that wait to be claimed", "image", "driver")
        self._used = self._gauge("squib_host_used", "What machines are promised (cores, MiB)", "resource")
        self._capacity = self._gauge("squib_host_capacity", "What may be promised (cores, MiB)", "resource")
        self._disk = self._gauge("squib_host_free_disk_mib", "What is free where the state lies")

    def _gauge(self, name: str, words: str, *labels: str) -> Gauge:
        return Gauge(name, words, labels, registry=self.registry)

    def render(self, status: HostStatus) -> bytes:
        """All of them as text, of a host that stands so."""
        for gauge in (self._ready, self._capacity):
            gauge.clear()
        for pool in status.pools:
            self._ready.labels(pool.image, pool.driver).set(pool.ready)
        states = {"claimed": status.sandboxes, "suspended": status.suspended}
        states["ready"] = sum(pool.ready for pool in status.pools)
        for state, count in states.items():
            self._machines.labels(state).set(count)
        for resource in ("machines", "cpu", "memory", "disk"):
            self._used.labels(resource).set(getattr(status.used, resource))
            if (given := getattr(status.capacity, resource)) is not None:
                self._capacity.labels(resource).set(given)
        self._disk.set(status.free_disk)
        return generate_latest(self.registry)
