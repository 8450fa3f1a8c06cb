"""`squib api` and `squib scheduler`: the roles of `squib up` as processes of their own, on PostgreSQL."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from squib import settings
from squib.api import create_app
from squib.cli import compose, exits, logs, options
from squib.cli.credentials import announced, first_token
from squib.cli.listen import listening, serve
from squib.cli.output import say, say_json
from squib.cli.stop import stopping
from squib.contracts.errors import InvalidRequest
from squib.orchestrator.local import LocalOrchestrator
from squib.scheduler import Scheduler


def api(*, port: int | None = None, host: str | None = None, json: options.Json = False) -> int:
    """Start the API alone, beside schedulers, on PostgreSQL.

    Terminals and files of live sandboxes work where their sockets are on this machine.

    Args:
        port: The port to listen on; 0 takes a free one. SQUIB_PORT or 8080 where absent.
        host: The address to listen on. SQUIB_HOST or 127.0.0.1 where absent.
        json: Print one line of JSON once it is ready, in the place of words.
    """
    named = {name: value for name, value in {"port": port, "host": host}.items() if value is not None}
    return asyncio.run(_until_stopped(_split(**named), lambda i, stop: _api(i, stop, json)))


def scheduler(*, sandbox: str | None = None, json: options.Json = False) -> int:
    """Start a scheduler with its sandboxes, beside an API, on PostgreSQL.

    Args:
        sandbox: The driver; the strongest that boots where absent. 'process' isolates nothing and must be named.
        json: Print one line of JSON once it is ready, in the place of words.
    """
    named = {"sandbox": {"driver": sandbox}} if sandbox else {}
    return asyncio.run(_until_stopped(_split(**named), lambda i, stop: _scheduler(i, stop, json)))


def _split(**named: object) -> compose.Installation:
    """The settings for one role of several. Raises InvalidRequest for what serves one process only."""
    loaded = settings.load(**named)
    if loaded.sqlite:
        raise InvalidRequest(
            "SQUIB_DATABASE_URL: SQLite serves one process, and this role is one of several",
            advice="Set SQUIB_DATABASE_URL=postgresql://…, or start 'squib up', which is all roles in one process.",
            fields={"SQUIB_DATABASE_URL": "must be a postgresql:// URL"},
        )
    if loaded.secret_key is None:
        raise InvalidRequest(
            "SQUIB_SECRET_KEY: must be set, the same for all roles",
            advice="'openssl rand -hex 32' makes one.",
            fields={"SQUIB_SECRET_KEY": "must be set"},
        )
    logs.configure(loaded)
    return compose.Installation(loaded, settings.prepare(loaded))


async def _until_stopped(
    installation: compose.Installation, part: Callable[[compose.Installation, asyncio.Event], Awaitable[None]]
) -> int:
    with stopping() as stop:
        await part(installation, stop)
    return exits.OK


async def _api(installation: compose.Installation, stop: asyncio.Event, json: bool) -> None:
    loaded = installation.settings
    async with contextlib.AsyncExitStack() as stack:
        listener = stack.enter_context(listening(loaded.host, loaded.port))
        store, queue = await stack.enter_async_context(compose.middle(installation))
        token = await first_token(store, loaded.state_dir)
        app = create_app(store, queue, compose.api_config(installation, only=None))
        stack.enter_context(announced(loaded.state_dir, listener.url, token))
        await _while_running(serve(app, listener), stop, {"url": listener.url, "token": token}, json)


async def _scheduler(installation: compose.Installation, stop: asyncio.Event, json: bool) -> None:
    async with compose.middle(installation) as (store, queue), compose.sandboxes(installation) as host:
        worker = Scheduler(store, queue, LocalOrchestrator(host), compose.scheduler_config(installation))
        await _while_running(worker.run(), stop, {"driver": host.driver}, json)


async def _while_running(part: Awaitable[None], stop: asyncio.Event, ready: dict[str, str], json: bool) -> None:
    async def run() -> None:
        await part

    compose.settle()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run())
        if json:
            say_json(ready)
        else:
            say("squib: ready; " + ", ".join(f"{name} {value}" for name, value in ready.items()))
        await stop.wait()
        task.cancel()
