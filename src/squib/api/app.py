"""The application: all routes over one store and one queue."""

from fastapi import FastAPI
from starlette.routing import BaseRoute

from squib.api import artifacts, events, files, health, problems, pty, session, tasks, terminal, tokens, uploads
from squib.api.config import ApiConfig
from squib.api.document import document
from squib.api.edge import Edge
from squib.api.metrics import Metrics
from squib.api.services import Services
from squib.queue.base import Queue
from squib.store import Store

_ROOMS = (tasks, events, artifacts, terminal, pty, files, uploads, tokens, session, health)


class _App(FastAPI):
    """FastAPI with our own OpenAPI document."""

    def openapi(self) -> dict[str, object]:
        """The document, made once."""
        if self.openapi_schema is None:
            config: ApiConfig = self.state.services.config
            self.openapi_schema = document(self.routes, config)
        return self.openapi_schema


def create_app(store: Store, queue: Queue, config: ApiConfig) -> FastAPI:
    """Make the ASGI application. The store and the queue stay the caller's: open before, close after it."""
    app = _App(
        routes=all_routes(),
        title="squib",
        version=config.version,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # those pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    metrics = Metrics()
    app.state.services = Services(store, queue, config, metrics)
    app.add_middleware(Edge, config=config, metrics=metrics)
    problems.install(app)
    return app


def all_routes() -> list[BaseRoute]:
    """The routes, each with its whole path: a flat list costs an event stream less than routers within routers."""
    return [route for room in _ROOMS for route in room.router.routes]
