"""`squib snapshot build|list|show|rm`."""

import asyncio
import time

from cyclopts import App

from squib import paths, settings
from squib.cli import compose, exits, options
from squib.cli.list import age
from squib.cli.output import clean, say, say_json, styled, table
from squib.cli.progress import bytes_, watching
from squib.contracts import codec
from squib.host import snapshots
from squib.host.snapshots import Snapshots, Stored

app = App(
    name="snapshot",
    default_parameter=options.COMMON,
    help="Freeze warm machines, from which sandboxes start in a fraction of a boot.",
)


@app.command
def build(image: str | None = None, /, *, sandbox: str | None = None, json: options.Json = False) -> int:
    """Boot a machine of an image, warm it up, and freeze it: sandboxes of that image then start from there.

    A squib that runs takes it up by itself. Only drivers that can freeze machines: see 'squib doctor'.

    Args:
        image: The image's name or digest; absent: what tasks get that name none.
        sandbox: The driver; the one that 'squib up' would take where absent.
        json: Print the manifest as JSON.
    """
    loaded = settings.load()
    installation = compose.Installation(loaded, settings.prepare(loaded))
    config = compose.host_config(installation)

    async def watched() -> Stored:
        with watching() as progress:
            return await snapshots.build(config, image, progress, driver=sandbox)

    began = time.monotonic()
    stored = asyncio.run(watched())
    if json:
        say_json(_document(stored, None))
    elif (made := stored.snapshot) is not None:
        took = time.monotonic() - began
        say(f"{made.id}  {made.image_name} by {made.fabric.driver}, {bytes_(made.size)}, made in {took:.0f} s")
    return exits.OK


@app.command(name="list")
def list_(*, json: options.Json = False) -> int:
    """List the snapshots that are here, newest first, and whether sandboxes can start from them.

    All their parts are read: a damaged one is named here, and passed over by a squib that runs.

    Args:
        json: Print one manifest a line as JSON, with `usable` and `why_not`.
    """
    found = _judged()
    if json:
        for stored, why_not in found:
            say_json(_document(stored, why_not))
    elif found:
        table(("id", "image", "driver", "size", "age", "usable"), [_row(*each) for each in found])
    else:
        say("no snapshots; 'squib snapshot build IMAGE' makes one")
    return exits.OK


@app.command
def show(snapshot: str, /, *, json: options.Json = False) -> int:
    """Show a snapshot: what it was made of, what it needs, and whether it can be used here.

    The exit status is 1 where it can't.

    Args:
        snapshot: Its id, or the id's end.
        json: Print its manifest as JSON, with `usable` and `why_not`.
    """
    wanted = _store().get(snapshot)
    why_not = next((why for stored, why in _judged() if stored.id == wanted.id), "it was removed just now")
    if json:
        say_json(_document(wanted, why_not))
    else:
        for name, value in _fields(wanted, why_not):
            if value:
                say(f"{styled(name.ljust(12), 'bold')}{clean(value, lines=False)}")
    return exits.OK if why_not is None else exits.FAILED


@app.command
def rm(snapshot: str, /, *, json: options.Json = False) -> int:
    """Remove a snapshot; what sandboxes were made from it goes on.

    Args:
        snapshot: Its id, or the id's end.
        json: Print what was removed as JSON.
    """
    stored = _store().remove(snapshot)
    if json:
        say_json({"removed": stored.id})
    else:
        say(f"{stored.id} is removed")
    return exits.OK


def _store() -> Snapshots:
    return Snapshots(paths.state_dir())


def _judged() -> list[tuple[Stored, str | None]]:
    """Judging needs a state directory and drivers: without any snapshot it is not begun."""
    if not _store().all():
        return []
    loaded = settings.load()
    config = compose.host_config(compose.Installation(loaded, settings.prepare(loaded)))
    return asyncio.run(snapshots.verdicts(config))


def _document(stored: Stored, why_not: str | None) -> dict[str, object]:
    document = {"id": stored.id} if stored.snapshot is None else codec.encode(stored.snapshot)
    return {**document, "path": str(stored.path), "usable": why_not is None, "why_not": why_not}


def _row(stored: Stored, why_not: str | None) -> list[str]:
    usable = "yes" if why_not is None else clean(f"no: {why_not}", lines=False)
    made = stored.snapshot
    if made is None:
        return [stored.id, "", "", "", "", usable]
    return [stored.id, made.image_name, made.fabric.driver, bytes_(made.size), age(made.created_at), usable]


def _fields(stored: Stored, why_not: str | None) -> list[tuple[str, str]]:
    usable = ("usable", "yes" if why_not is None else f"no: {why_not}")
    if (made := stored.snapshot) is None:
        return [("id", stored.id), usable, ("path", str(stored.path))]
    return [
        ("id", made.id),
        usable,
        ("image", f"{made.image_name} {'' if made.image == made.image_name else made.image}"),
        ("driver", f"{made.fabric.driver} {made.fabric.version}"),
        ("kernel", made.fabric.kernel),
        ("processor", made.fabric.cpu),
        ("supervisor", made.guest),
        ("machine", f"{made.cpu:g} cores, {made.memory} MiB"),
        ("size", f"{bytes_(made.size)} in {len(made.parts)} parts"),
        ("created", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(made.created_at))),
        ("path", str(stored.path)),
    ]
