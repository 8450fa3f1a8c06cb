"""`squib kernel build|show`."""

import asyncio
import time

from cyclopts import App

from squib import paths, settings
from squib.cli import exits, options
from squib.cli.output import clean, say, say_json, styled
from squib.cli.progress import bytes_, watching
from squib.contracts import codec
from squib.host.vm import kernels
from squib.host.vm.kernels import Kernel

app = App(
    name="kernel", default_parameter=options.COMMON, help="The kernel that sandboxes with one of their own start."
)
_SHORT = 12


@app.command
def build(*, json: options.Json = False) -> int:
    """Make the newest kernel of the distribution's packages, which are only unpacked; new sandboxes start it.

    It takes them from the machine's own apt sources. Needs root and a Debian.

    Args:
        json: Print the manifest as JSON.
    """
    loaded = settings.load()
    settings.prepare(loaded)

    async def watched() -> Kernel:
        with watching() as progress:
            return await kernels.build(loaded.state_dir, progress, apt_sources=loaded.images.apt_sources)

    began = time.monotonic()
    made = asyncio.run(watched())
    if json:
        say_json(_document(made))
    else:
        took = time.monotonic() - began
        say(f"{made.version}  {made.digest[:_SHORT]}  {bytes_(made.size)}, made in {took:.0f} s")
    return exits.OK


@app.command
def show(*, json: options.Json = False) -> int:
    """Show the kernel that is here.

    Args:
        json: Print its manifest as JSON.
    """
    kernel = kernels.get(paths.state_dir())
    if json:
        say_json(_document(kernel))
        return exits.OK
    packages = ", ".join(f"{package.name} {package.version}" for package in kernel.packages)
    for name, value in (
        ("version", kernel.version),
        ("digest", kernel.digest),
        ("size", bytes_(kernel.size)),
        ("created", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(kernel.created_at))),
        ("packages", packages),
        ("path", kernel.path),
    ):
        say(f"{styled(name.ljust(12), 'bold')}{clean(value, lines=False)}")
    return exits.OK


def _document(kernel: Kernel) -> dict[str, object]:
    document: dict[str, object] = codec.encode(kernel)
    return document
