"""What a container is given: files that its engine reads, and control groups; and how these are taken back."""

import asyncio
import contextlib
import json
import os
from pathlib import Path

from squib.contracts.errors import InfrastructureError
from squib.contracts.guest import GuestConfig
from squib.contracts.machine import Machine, MachineSpec
from squib.host import cgroups, interpreters, seccomp
from squib.host.drivers import container_options, container_root, gvisor_bundle, gvisor_runsc, inside, sandbox, view
from squib.host.drivers.container_engine import Engine
from squib.host.drivers.container_options import Container
from squib.host.ground import Ground, limits_of, vacate
from squib.host.layout import MachineDir

_PAUSES = (0.001, 0.01, 0.1, 1.0)  # seconds


def program(engine: Engine, *words: str) -> tuple[str, ...]:
    """What Python is given to run a program: gVisor is told from inside which system calls to refuse.

    It would answer all that a profile names with EPERM, and programs go on only from ENOSYS.
    """
    filtered = (f"{sandbox.CONFIG}/inside.py", f"{sandbox.CONFIG}/filter") if engine.is_gvisor else ()
    return (*filtered, *words)


def bounds(engine: Engine | None, spec: MachineSpec) -> cgroups.Limits:
    """What was asked for: beside the guest there is only Podman's watcher, which is small. gVisor needs more."""
    return gvisor_runsc.bounds(spec) if engine is not None and engine.is_gvisor else limits_of(spec)


async def prepare(ground: Ground, engine: Engine, draft: Machine, config: GuestConfig) -> Container:
    """Leave all that the engine reads, and make the groups. Raises InfrastructureError or OSError."""
    place = Path(draft.directory)
    user = container_options.inner_user(engine, os.geteuid() if draft.uid is None else draft.uid)
    own = [*view.of_machine(ground, draft, config), *_accounts(place, config, user)]
    if engine.is_gvisor:
        own += _for_gvisor(place)
    profile = place / "seccomp.json"
    profile.write_text(json.dumps(seccomp.profile()))
    limits = bounds(engine, draft.spec)
    cgroups.limit(draft.cgroups, limits)
    skeleton = await container_root.skeleton(ground.state, draft.spec.image, config, own)
    return Container(
        spec=draft.spec,
        config=config,
        installation=ground.groups.name,
        uid=draft.uid,
        profile=profile,
        pid_file=place / "pid",
        group=_make_groups(draft) if engine.grouped else None,
        root=skeleton.path if engine.is_podman else await engine.bring(skeleton),
        binds=[*skeleton.binds, *own],
        bounds=limits,
    )


async def take_back(ground: Ground, machine: Machine) -> None:
    """End what still runs, and give back all that was held. Raises InfrastructureError."""
    await vacate(ground, machine)
    groups = cgroups.in_all(cgroups.from_top(machine.cgroups[0])) if machine.cgroups else []
    for pause in (0, *_PAUSES):  # a process leaves its groups a moment after it has ended
        await asyncio.sleep(pause)
        if cgroups.remove(tuple(map(str, groups))):
            break
    else:
        raise InfrastructureError(f"control groups of {machine.id} are still in use")
    for above in {group.parent for group in groups} - set(ground.groups.places):
        with contextlib.suppress(OSError):  # it has other machines' groups
            above.rmdir()


def _make_groups(draft: Machine) -> str | None:
    """Make the machine's group in every hierarchy: run-times make theirs below it in each. Gives its path."""
    if not draft.cgroups:
        return None
    path = cgroups.from_top(draft.cgroups[0])
    for group in cgroups.in_all(path):
        with contextlib.suppress(OSError):
            group.mkdir(parents=True, exist_ok=True)
    return path


def _accounts(place: Path, config: GuestConfig, user: int) -> list[view.Bind]:
    """The machine's /etc/passwd, /etc/group and /etc/hosts."""
    folder = place / "etc"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o711)
    binds = []
    for name, content in zip(("passwd", "group", "hosts"), sandbox.accounts(config.hostname, user), strict=True):
        gvisor_bundle.leave(folder / name, content)
        binds.append(view.Bind(str(folder / name), f"/etc/{name}"))
    return binds


def _for_gvisor(place: Path) -> list[view.Bind]:
    """Leave its first code, and close a device that everybody may open there."""
    config = MachineDir(place).config
    gvisor_bundle.leave(config / "inside.py", Path(inside.__file__).read_bytes())
    gvisor_bundle.leave(config / "filter", gvisor_bundle.system_call_filter())
    gvisor_bundle.leave(config / "check.py", interpreters.CHECK.encode())
    closed = place / "etc" / "closed"
    gvisor_bundle.leave(closed, b"")
    closed.chmod(0)
    return [view.Bind(str(closed), "/dev/fuse")]
