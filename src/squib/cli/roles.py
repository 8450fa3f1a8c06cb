"""`squib api`, `squib scheduler` and `squib host`: the roles of `squib up` as processes of their own."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from squib import settings
from squib.api import create_app
from squib.cli import compose, exits, logs, options
from squib.cli.credentials import announced, first_token
from squib.cli.listen import listening, listening_at, serve
from squib.cli.output import say, say_json
from squib.cli.stop import stopping
from squib.contracts.errors import InvalidRequest
from squib.daemon import create_daemon
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

    Its sandboxes are made in its own process, or by the 'squib host' that SQUIB_HOST_URL names.

    Args:
        sandbox: The driver; the strongest that boots where absent. 'process' isolates nothing and must be named.
        json: Print one line of JSON once it is ready, in the place of words.
    """
    installation = _split(**_driver(sandbox))
    if sandbox and installation.settings.host_url:
        raise InvalidRequest("--sandbox: the host that SQUIB_HOST_URL names has chosen its driver")
    return asyncio.run(_until_stopped(installation, lambda i, stop: _scheduler(i, stop, json)))


def host(*, listen: str | None = None, sandbox: str | None = None, json: options.Json = False) -> int:
    """Start a host: sandboxes alone, for schedulers elsewhere that name it by SQUIB_HOST_URL.

    Its sandboxes outlive it: the next start takes over those that still answer.

    Args:
        listen: ADDRESS:PORT (0: a free one) or unix:PATH. SQUIB_DAEMON__LISTEN or 127.0.0.1:8090 where absent.
        sandbox: The driver; the strongest that boots where absent. 'process' isolates nothing and must be named.
        json: Print one line of JSON once it is ready, in the place of words.
    """
    named = {**_driver(sandbox), **({"daemon": {"listen": listen}} if listen else {})}
    loaded = settings.load(**named)
    return asyncio.run(_until_stopped(_with_key(loaded), lambda i, stop: _host(i, stop, json)))


def _driver(sandbox: str | None) -> dict[str, object]:
    return {"sandbox": {"driver": sandbox}} if sandbox else {}


def _split(**named: object) -> compose.Installation:
    """The settings for one role of several. Raises InvalidRequest for what serves one process only."""
    loaded = settings.load(**named)
    if loaded.sqlite:
        raise InvalidRequest(
            "SQUIB_DATABASE_URL: SQLite serves one process, and this role is one of several",
            advice="Set SQUIB_DATABASE_URL=postgresql://…, or start 'squib up', which is all roles in one process.",
            fields={"SQUIB_DATABASE_URL": "must be a postgresql:// URL"},
        )
    return _with_key(loaded)


def _with_key(loaded: settings.Settings) -> compose.Installation:
    """The settings with the key that all roles must share. Raises InvalidRequest."""
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
    async with (
        compose.middle(installation) as (store, queue),
        compose.orchestrator(installation) as (orchestrator, said),
    ):
        worker = Scheduler(store, queue, orchestrator, compose.scheduler_config(installation))
        await _while_running(worker.run(), stop, said, json)


async def _host(installation: compose.Installation, stop: asyncio.Event, json: bool) -> None:
    async with contextlib.AsyncExitStack() as stack:
        listener = stack.enter_context(listening_at(installation.settings.daemon.listen))
        config = compose.daemon_config(installation)
        made = await stack.enter_async_context(compose.sandboxes(installation, config=config))
        app = create_daemon(made, installation.key)
        await _while_running(serve(app, listener), stop, {"url": listener.url, "driver": made.driver}, json)


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
