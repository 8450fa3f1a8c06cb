"""What every handler needs: the store, the queue, the settings and the gauges, as one dependency."""

import collections
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from squib.api.config import ApiConfig
from squib.api.metrics import Metrics
from squib.queue.base import Queue
from squib.store import Store


@dataclass(frozen=True, slots=True)
class Services:
    """One an application; it lives as long as the application."""

    store: Store
    queue: Queue
    config: ApiConfig
    metrics: Metrics
    terminals: collections.Counter[str] = field(default_factory=collections.Counter)  # open, by task id


async def services_of(connection: HTTPConnection) -> Services:
    """The services of the application that answers this connection. (FastAPI runs plain functions in a thread.)"""
    services = connection.app.state.services
    assert isinstance(services, Services)
    return services


Deps = Annotated[Services, Depends(services_of)]
