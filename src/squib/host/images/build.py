"""Builds an image from its definition."""

import asyncio
import shlex
from pathlib import Path

from squib.contracts.errors import ImageError
from squib.host.images import finish, inroot, sources, tidy
from squib.host.images.confined import Confined
from squib.host.images.definition import Definition
from squib.host.images.finish import Facts, Steps
from squib.host.images.runner import Progress, ending_with_us, require, run, writable_by
from squib.host.images.store import Images, Kept, Workshop

_NPM = "npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error --cache /tmp/npm"
_PIP = (
    "python3 -m pip install --no-deps --no-compile --no-cache-dir --no-input --progress-bar off"
    " --disable-pip-version-check --break-system-packages"
)
#: Nobody reads manuals here; and a build that a power cut ends counts for nothing, so that nothing need be synced.
_DPKG = (
    *("path-exclude=/usr/share/man/*", "path-exclude=/usr/share/locale/*", "path-exclude=/usr/share/doc/*"),
    *("path-include=/usr/share/doc/*/copyright", "force-unsafe-io"),
)
#: The same code whenever it is compiled: no times in it, nor the order of a set.
_COMPILE = (
    "PYTHONHASHSEED=0 python3 -P -S -s -m compileall -q -f --invalidation-mode unchecked-hash"
    " /usr/lib/python3 /usr/lib/python3.* /usr/local/lib/python3.*"
)


async def build(
    images: Images, definition: Definition, progress: Progress, *, apt_sources: Path | None = None
) -> Kept:
    """Make the image and let its name mean it. Ended at any point, it leaves nothing that counts. Raises ImageError.

    `apt_sources`: a file of apt sources instead of the machine's own.
    """
    finish.check_root()
    require("mmdebstrap", "mksquashfs", "bwrap", "setpriv", "unshare")
    user = finish.user_of(images)
    steps = Steps(progress, 1 + len(_optional(definition)) + 1 + len(finish.STEPS))
    with images.workshop() as workshop:
        steps.next("base system")
        await _base(workshop, definition, progress, apt_sources)
        await asyncio.to_thread(_lend, workshop, user)
        confined = Confined(workshop.rootfs, workshop.scratch, user, progress)
        for name in _optional(definition):
            steps.next(name)
            await _OPTIONAL[name](workshop, definition, confined, user)
        steps.next("compile")
        await asyncio.to_thread(tidy.remove_caches, workshop.rootfs)
        await confined.make(_COMPILE, "compiling Python's modules", {})
        facts = Facts(
            definition.name,
            f"definition {definition.name}",
            definition.summary,
            definition.environment,
            definition.warmup,
            definition.npm,
        )
        return await finish.finish(images, workshop, facts, steps, progress, user)


def _lend(workshop: Workshop, user: int) -> None:
    writable_by(workshop.scratch, user)
    writable_by(workshop.scratch / "home", user)
    with inroot.opened(workshop.rootfs) as root:
        for path in ("/etc/resolv.conf", "/etc/hosts"):  # they are bound over while steps run
            root.write(path, b"")
        tidy.lend(root, user)


async def _base(workshop: Workshop, definition: Definition, progress: Progress, named: Path | None) -> None:
    mirrors = sources.find(definition.suite, named, workshop.path)
    options = ("--mode=root", "--variant=essential", "--format=directory", "--skip=check/empty")
    dpkg = [f"--dpkgopt={option}" for option in _DPKG]
    argv = ("mmdebstrap", *options, *dpkg, f"--include={','.join(definition.all_packages)}")
    env = {"SOURCE_DATE_EPOCH": str(tidy.EPOCH), "DEBIAN_FRONTEND": "noninteractive"}
    await run(
        ending_with_us(*argv, definition.suite, str(workshop.rootfs), *mirrors),
        progress,
        "mmdebstrap",
        env=env,
        advice="See whether the packages' names are right and the machine's apt sources answer (apt-get update).",
    )


def _optional(definition: Definition) -> list[str]:
    return [name for name in _OPTIONAL if getattr(definition, name)]


async def _files(workshop: Workshop, definition: Definition, confined: Confined, user: int) -> None:
    with inroot.opened(workshop.rootfs) as root:
        for target, name in definition.files.items():
            source = Path(definition.folder) / name
            if not source.exists():
                raise ImageError(f"files: {source} is not there", advice="Correct the definition.")
            root.copy(source, target)
        tidy.lend(root, user)


async def _pip(workshop: Workshop, definition: Definition, confined: Confined, user: int) -> None:
    await confined.make(f"{_PIP} {shlex.join(definition.pip)}", "pip", {})
    await confined.make("python3 -m pip check", "pip check", {})


async def _npm(workshop: Workshop, definition: Definition, confined: Confined, user: int) -> None:
    for folder in definition.npm:
        await confined.make(f"cd {shlex.quote(folder)} && {_NPM}", f"npm ci in {folder}", {})


async def _links(workshop: Workshop, definition: Definition, confined: Confined, user: int) -> None:
    with inroot.opened(workshop.rootfs) as root:
        for path, target in definition.links.items():
            root.link(path, target)


async def _commands(workshop: Workshop, definition: Definition, confined: Confined, user: int) -> None:
    for command in definition.commands:
        await confined.make(command, f"the command {command!r}", definition.environment)


#: In this order, each where the definition has something for it.
_OPTIONAL = {"files": _files, "pip": _pip, "links": _links, "npm": _npm, "commands": _commands}
