"""`squib image build|import|list|show|rm`."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from cyclopts import App

from squib import paths, settings
from squib.cli import exits, options
from squib.cli.list import age
from squib.cli.output import clean, say, say_json, styled, table
from squib.cli.progress import bytes_, watching
from squib.contracts import codec
from squib.contracts.image import check_name
from squib.host import images
from squib.host.images import Images, Progress
from squib.host.images.oci import default_name
from squib.host.images.store import Kept

app = App(name="image", default_parameter=options.COMMON, help="Make, import and list the images of sandboxes.")
_SHORT = 12


@app.command
def build(definition: str, /, *, json: options.Json = False) -> int:
    """Build an image from its definition, and let its name mean it.

    It takes the packages of the machine's own apt sources, and of PyPI and npm where the definition names any.
    Needs root, mmdebstrap, squashfs-tools and bubblewrap.

    Args:
        definition: One of squib's own (agent, go, nextjs, node, python, rust), or the path of a .toml file.
        json: Print the manifest as JSON.
    """
    loaded = settings.load()
    settings.prepare(loaded)
    wanted = images.load(definition)
    store = Images(loaded.state_dir)
    sources = loaded.images.apt_sources
    return _make(lambda progress: images.build(store, wanted, progress, apt_sources=sources), wanted.name, json)


@app.command(name="import")
def import_(source: str, /, *, name: str | None = None, json: options.Json = False) -> int:
    """Make an image of an OCI image.

    It must bring Python 3.11 or newer and a shell; squib adds its supervisor. Needs root, skopeo, umoci,
    squashfs-tools and bubblewrap.

    Args:
        source: A reference such as REGISTRY/NAME:TAG, an OCI layout's directory, or an archive of 'docker save'.
        name: What to call it; absent: the last part of the source.
        json: Print the manifest as JSON.
    """
    loaded = settings.load()
    settings.prepare(loaded)
    called = check_name(name) if name else default_name(source)
    store = Images(loaded.state_dir)
    return _make(lambda progress: images.import_(store, source, called, progress), called, json)


@app.command(name="list")
def list_(*, json: options.Json = False) -> int:
    """List the images that are here, newest first.

    Args:
        json: Print one manifest a line as JSON, the names that mean it beside it.
    """
    found = _store().all()
    if json:
        for kept in found:
            say_json(_document(kept))
    elif found:
        table(("name", "digest", "size", "age", "source"), [_row(kept) for kept in found])
    else:
        say(f"no images; 'squib image build NAME' makes one of {', '.join(images.names())}")
    return exits.OK


@app.command
def show(image: str, /, *, json: options.Json = False) -> int:
    """Show an image: what it is made of, and where it lies.

    Args:
        image: Its name, or its digest's beginning.
        json: Print its manifest as JSON.
    """
    kept = _store().get(image)
    if json:
        say_json(_document(kept))
        return exits.OK
    for name, value in _fields(kept):
        if value:
            say(f"{styled(name.ljust(12), 'bold')}{clean(value, lines=False)}")
    for package in kept.image.packages:
        say(f"{styled(package.kind.ljust(12), 'bold')}{clean(f'{package.name} {package.version}', lines=False)}")
    return exits.OK


@app.command
def rm(image: str, /, *, json: options.Json = False) -> int:
    """Remove an image's name, and the image once no name means it.

    Args:
        image: Its name; or its digest's beginning, which removes it with all of its names.
        json: Print what was removed as JSON.
    """
    kept = _store().remove(image)
    if json:
        say_json({"removed": image, "digest": kept.image.digest})
    else:
        say(f"{image} is removed")
    return exits.OK


def _store() -> Images:
    return Images(paths.state_dir())


def _make(work: Callable[[Progress], Awaitable[Kept]], name: str, json: bool) -> int:
    async def watched() -> Kept:
        with watching() as progress:
            return await work(progress)

    began = time.monotonic()
    kept = asyncio.run(watched())
    if json:
        say_json(_document(kept))
    else:
        size = bytes_(kept.image.size)
        say(f"{name}  {kept.image.digest[:_SHORT]}  {size}, made in {time.monotonic() - began:.0f} s")
    return exits.OK


def _document(kept: Kept) -> dict[str, object]:
    document: dict[str, object] = codec.encode(kept.image)
    return document | {"names": list(kept.names), "rootfs": str(kept.rootfs), "drive": str(kept.drive)}


def _row(kept: Kept) -> list[str]:
    image = kept.image
    names = ", ".join(kept.names) or "-"
    return [names, image.digest[:_SHORT], bytes_(image.size), age(image.created_at), clean(image.source, lines=False)]


def _fields(kept: Kept) -> list[tuple[str, str]]:
    image = kept.image
    return [
        ("name", ", ".join(kept.names) or f"none; made as {image.name}"),
        ("summary", image.summary),
        ("digest", image.digest),
        ("size", f"{bytes_(image.size)}; as a drive {bytes_(image.drive_size)}"),
        ("created", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(image.created_at))),
        ("source", image.source),
        ("supervisor", image.guest[:_SHORT]),
        ("python", image.python),
        ("environment", " ".join(f"{name}={value}" for name, value in image.environment.items())),
        ("warm-up", "; ".join(image.warmup)),
        ("root", str(kept.rootfs)),
        ("drive", str(kept.drive)),
    ]
