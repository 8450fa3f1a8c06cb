"""Whether this process lives, whether it can work, and how much it does."""

from fastapi import APIRouter
from starlette.responses import Response

from squib.api.docs import problems
from squib.api.metrics import CONTENT_TYPE
from squib.api.replies import reply
from squib.api.services import Deps
from squib.contracts.api import Status

router = APIRouter(tags=["operations"])


@router.get(
    "/healthz", operation_id="healthz", summary="Is the process alive", response_model=Status, responses=problems()
)
async def healthz() -> Response:
    """Answers while the process does; asks nobody else."""
    return reply(Status("ok"))


@router.get("/readyz", operation_id="readyz", summary="Can it work", response_model=Status, responses=problems(503))
async def readyz(services: Deps) -> Response:
    """Asks the database; 503 where that does not answer."""
    await services.store.ping()
    return reply(Status("ok"))


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        200: {"description": "Text", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **problems(503),
    },
)
async def metrics(services: Deps) -> Response:
    """Counts and times of this process, and tasks by state: no task's content. Needs no token; keep it inside."""
    return Response(services.metrics.render(await services.store.tasks.counts()), media_type=CONTENT_TYPE)
