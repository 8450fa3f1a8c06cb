"""What happened to a task: a stream of events, or pages of them."""

import re
from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.requests import Request
from starlette.responses import Response

from squib.api.docs import problems
from squib.api.owned import OwnedTask
from squib.api.replies import reply
from squib.api.services import Deps
from squib.api.stream import EventStream
from squib.contracts.api import EventPage
from squib.contracts.errors import InvalidRequest
from squib.contracts.guest import SSE

router = APIRouter(prefix="/api/v1/tasks", tags=["events"])
_MAX_SEQ = 2**63 - 1
_STREAM = {
    "description": "With `Accept: text/event-stream` a stream, else a page of JSON.",
    "content": {
        SSE: {
            "schema": {"type": "string"},
            "example": (
                'id: 1\nevent: task.queued\ndata: {"task_id":"task-…","seq":1,"type":"task.queued","time":1790000000'
                ',"source":"api","data":{"attempt":1}}\n\n: heartbeat\n\n'
            ),
        }
    },
}


def _last_seen(header: str | None, after: int) -> int:
    """Where to go on. The header wins: a browser that reconnects sends the URL of the first time beside it."""
    if header is None:
        return after
    if re.fullmatch(r"[0-9]{1,19}", header) is None or int(header) > _MAX_SEQ:
        message = "must be the number of an event"
        raise InvalidRequest(f"Last-Event-ID: {message}", fields={"Last-Event-ID": message})
    return int(header)


@router.get(
    "/{task_id}/events",
    operation_id="get_events",
    summary="Follow a task's events, or read a page of them",
    response_model=EventPage,
    responses={200: _STREAM, **problems(401, 404, 422, 503)},
)
async def get_events(
    request: Request,
    task: OwnedTask,
    services: Deps,
    after: Annotated[int, Query(ge=0, le=_MAX_SEQ, description="Only events with a higher `seq`")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="Of a page; a stream has no limit")] = 200,
    last_event_id: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            description="As `after`, and wins over it: what a browser sends when it reconnects",
            json_schema_extra={"pattern": "^[0-9]{1,18}$"},
        ),
    ] = None,
) -> Response:
    """Events are numbered by `seq` from 1, without holes or repeats, across reconnects and restarts of squib.

    As a stream (`Accept: text/event-stream`): `id` is the `seq`, `event` the type, `data` one Event as JSON. A
    comment comes every 15 seconds of silence. The stream ends after the event of a terminal state (`task.succeeded`,
    `task.failed`, `task.cancelled`, `task.timed_out`); ended any other way, go on with `Last-Event-ID`. Where a
    sandbox lost events, an event `runtime.gap` says which.

    As JSON: a page, at once, with `last`, the newest `seq` there is.
    """
    start = _last_seen(last_event_id, after)
    events = services.store.events
    if SSE in request.headers.get("accept", "").lower():
        source = events.follow(task.id, after=start, heartbeat=services.config.heartbeat_seconds)
        return EventStream(source, services.metrics.streams)
    page = await events.page(task.id, after=start, limit=limit)
    return reply(EventPage(page, max(task.last_seq, page[-1].seq if page else 0)))
