"""`squib up`."""

import asyncio
import contextlib
from dataclasses import dataclass

from squib import __version__, settings
from squib.api import create_app
from squib.cli import compose, exits, logs, options
from squib.cli.credentials import announced, first_token
from squib.cli.demo import demonstrate
from squib.cli.listen import Listener, listening, serve
from squib.cli.output import note, say, say_json, styled
from squib.cli.stop import stopping
from squib.contracts.errors import DriverUnavailable
from squib.contracts.machine import Isolation
from squib.host import Host
from squib.host.drivers.registry import AUTOMATIC
from squib.host.images import Images
from squib.orchestrator.local import LocalOrchestrator
from squib.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class _Options:
    demo: bool
    json: bool


def up(
    *,
    port: int | None = None,
    host: str | None = None,
    sandbox: str | None = None,
    demo: bool = False,
    json: options.Json = False,
) -> int:
    """Start squib, all roles in one process, and stay until Ctrl-C.

    It prints the URL and the token, and other commands of the same user find it by themselves. Ctrl-C ends
    everything in order and leaves no process, mount or socket; a second one ends at once.

    Args:
        port: The port to listen on; 0 takes a free one. SQUIB_PORT or 8080 where absent.
        host: The address to listen on. SQUIB_HOST or 127.0.0.1 where absent.
        sandbox: The driver; the strongest that boots where absent. 'process' isolates nothing and must be named.
        demo: First run a task with the mock agent on a small repository and show what comes of it.
        json: Print one line of JSON once it is ready, in the place of words.
    """
    named = {"port": port, "host": host, "sandbox": {"driver": sandbox} if sandbox else None}
    loaded = settings.load(**{name: value for name, value in named.items() if value is not None})
    if demo and "log_level" not in loaded.model_fields_set:
        loaded = loaded.model_copy(update={"log_level": "warning"})  # the terminal belongs to the task
    logs.configure(loaded)
    installation = compose.Installation(loaded, settings.prepare(loaded))
    return asyncio.run(_up(installation, _Options(demo, json)))


async def _up(installation: compose.Installation, chosen: _Options) -> int:
    loaded = installation.settings
    async with contextlib.AsyncExitStack() as stack:
        stop = stack.enter_context(stopping())
        listener = stack.enter_context(listening(loaded.host, loaded.port))
        store, queue = await stack.enter_async_context(compose.middle(installation))
        host, only = await _host(stack, installation, demo=chosen.demo)
        token = await first_token(store, loaded.state_dir)
        drivers = compose.offered(host.driver) if only is None else (host.driver,)
        images = Images(loaded.state_dir)
        api = compose.api_config(installation, only=only, drivers=drivers, images=images)
        app = create_app(store, queue, api)
        scheduler = Scheduler(
            store,
            queue,
            LocalOrchestrator(host),
            compose.scheduler_config(installation, default_agent=api.default_agent),
        )
        stack.enter_context(announced(loaded.state_dir, listener.url, token))
        compose.settle()
        async with asyncio.TaskGroup() as group:
            parts = [group.create_task(serve(app, listener)), group.create_task(scheduler.run())]
            _banner(installation, host, listener, token, api.default_agent, chosen)
            if chosen.demo:
                parts.append(group.create_task(demonstrate(listener.url, token)))
            await stop.wait()
            for part in parts:
                part.cancel()
    return exits.OK


async def _host(
    stack: contextlib.AsyncExitStack, installation: compose.Installation, *, demo: bool
) -> tuple[Host, tuple[str, ...] | None]:
    """The host, and the agents that may run on it where that is not all of them."""
    try:
        return await stack.enter_async_context(compose.sandboxes(installation)), None
    except DriverUnavailable as error:
        if not demo or installation.settings.sandbox.driver != "auto":
            advice = f"{error.advice} Or name it with --sandbox process, which isolates nothing."
            raise DriverUnavailable(error.detail, advice=advice) from error
        note(f"squib: {error.detail}")
        note(f"squib: {error.advice}")
        note("squib: the mock agent alone is shown, by the driver 'process'.")
    return await stack.enter_async_context(compose.sandboxes(installation, driver="process")), ("mock",)


def _warn(host: Host) -> None:
    if host.capability.isolation is Isolation.NONE:
        words = "squib: NO ISOLATION: what an agent does, it does as your own user to your own files"
        note(styled(words, "bold", "red"))


def _why(asked: str, driver: str) -> str:
    """Why this driver: `auto` takes the first that boots, strongest first."""
    if asked != "auto" or driver not in AUTOMATIC:
        return "named"
    stronger = AUTOMATIC[: AUTOMATIC.index(driver)]
    passed = f"; {' and '.join(stronger)} would be stronger: 'squib doctor' says why not" if stronger else ""
    return f"the strongest that works here{passed}"


def _banner(
    installation: compose.Installation, host: Host, listener: Listener, token: str, agent: str, chosen: _Options
) -> None:
    loaded = installation.settings
    _warn(host)
    if chosen.json:
        why = _why(loaded.sandbox.driver, host.driver)
        ready = {"url": listener.url, "token": token, "driver": host.driver, "why": why, "version": __version__}
        say_json(ready)
        return
    isolation = host.capability.isolation.name.lower().replace("_", " ")
    say(styled(f"squib {__version__}", "bold"))
    say(f"  sandboxes  {host.driver} ({_why(loaded.sandbox.driver, host.driver)}; isolation: {isolation})")
    say(f"  image      {loaded.sandbox.image or 'the programs of this machine, read-only'}, where a task names none")
    say(f"  agent      {agent}")
    say(f"  state      {loaded.state_dir}")
    say(f"  open       {styled(f'{listener.url}/?token={token}', 'bold')}")
    if not chosen.demo:
        say('  then       squib run "what to do" --repo .     (Ctrl-C here stops squib)')
