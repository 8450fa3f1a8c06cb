"""A small image, built for real: twice the same, without a trace of its making, and of use."""

import asyncio
import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from squib.contracts.errors import Conflict, ImageError
from squib.contracts.guest import TerminalRequest
from squib.gateway import Gateway
from squib.host import Host, HostConfig
from squib.host.images import Images, build, load
from squib.host.images.confined import Confined
from squib.host.images.store import Kept
from squib.link import GuestLink, guest_token
from tests import leaks
from tests.host.conftest import KEY, sandbox
from tests.host.images.conftest import SMALL, Watcher, definition

pytestmark = [
    pytest.mark.needs("root", "mmdebstrap", "mksquashfs", "bwrap"),
    pytest.mark.timeout(600),
]


def test_the_manifest_tells_what_is_in_it(small: Kept) -> None:
    image = small.image
    versions = {(p.kind, p.name): p.version for p in image.packages}
    assert versions["pip", "iniconfig"] == "2.3.1"
    assert {("apt", "git"), ("apt", "python3"), ("apt", "ca-certificates")} <= versions.keys()
    assert (image.python, image.environment, len(image.guest)) == ("/usr/bin/python3", {"WHO": "world"}, 64)
    assert image.drive_size == small.drive.stat().st_size < image.size
    assert small.names == ("small",) and small.path.name == image.digest


def test_packages_code_ran_without_rights_and_left_none(small: Kept) -> None:
    opt = small.rootfs / "opt"
    assert (opt / "rights").read_text().split() == ["1000", "CapEff:", "0000000000000000"]
    assert stat.S_IMODE((opt / "stamp").stat().st_mode) == 0o755
    found = [p for p in small.rootfs.rglob("*") if not p.is_symlink() and p.stat().st_mode & 0o7022]
    assert found == []


def test_nothing_of_the_machine_is_in_it(small: Kept) -> None:
    root = small.rootfs
    sources = [*root.glob("etc/apt/sources.list*"), *root.glob("etc/apt/sources.list.d/*"), root / "etc/hostname"]
    assert [path for path in sources if path.exists() and not path.is_dir()] == []
    assert (root / "etc/machine-id").read_bytes() == (root / "etc/resolv.conf").read_bytes() == b""
    assert (
        list((root / "var/log").iterdir()) == list((root / "dev").iterdir()) == list((root / "tmp").iterdir()) == []
    )


def test_a_second_build_has_the_same_digest(small: Kept, shared_tmp: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    again = asyncio.run(build(Images(shared_tmp), load(str(definition(tmp_path))), watcher))
    assert again.image.digest == small.image.digest
    assert again.image.drive_sha256 == small.image.drive_sha256
    assert (watcher.steps[0], watcher.steps[-1]) == ("base system", "drive") and "hello world" in watcher.lines


async def test_a_step_that_fails_says_so_and_leaves_nothing(shared_tmp: Path, tmp_path: Path) -> None:
    sources = tmp_path / "mine.list"
    sources.write_text("deb [trusted=yes] file:/no-such-mirror bookworm main\n")
    with pytest.raises(ImageError, match="no-such-mirror"):
        await build(Images(shared_tmp), load(str(definition(tmp_path))), Watcher(), apt_sources=sources)
    assert [p.name for p in (shared_tmp / "images").rglob("*")] == ["names"]
    assert await leaks.gone(str(shared_tmp)) == []


@pytest.mark.parametrize("command", ["false", "touch /usr/x", "touch /opt/x", "getent hosts localhost.invalid"])
async def test_what_is_tried_out_must_succeed_and_can_change_nothing(
    small: Kept, tmp_path: Path, command: str
) -> None:
    confined = Confined(small.rootfs, tmp_path, 199_998, Watcher())
    with pytest.raises(ImageError, match="the warm-up failed"):
        await confined.try_out(command, "the warm-up", {})


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
async def test_an_interrupted_build_leaves_nothing_that_counts(shared_tmp: Path, tmp_path: Path, end: int) -> None:
    squib = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("squib")),
        *("image", "build", str(definition(tmp_path, SMALL))),
        env={**os.environ, "SQUIB_STATE_DIR": str(shared_tmp)},
        stderr=asyncio.subprocess.PIPE,
    )
    assert squib.stderr is not None
    assert b"base system" in await squib.stderr.readline()
    images = Images(shared_tmp)
    async with asyncio.timeout(120):
        while not list(images.root.glob(".making-*/image/rootfs/*")):  # noqa: ASYNC110 another process makes it
            await asyncio.sleep(0.05)
    squib.send_signal(end)
    assert await squib.wait() == (130 if end == signal.SIGINT else -signal.SIGKILL)
    assert await leaks.gone(str(shared_tmp)) == []
    assert images.all() == []
    with images.workshop() as workshop:
        left = {p.name for p in images.root.iterdir()}
        assert left == {"names", workshop.path.name}


async def test_a_sandbox_is_made_of_it(small: Kept) -> None:
    state = small.path.parent.parent
    config = HostConfig(state, KEY, driver="bubblewrap", pool_size=0, image="small")
    async with Gateway({}) as gateway, Host(config, gateway) as host:
        machine = await host.claim(sandbox())
        assert (machine.spec.image_name, machine.spec.python) == ("small", small.image.python)
        with pytest.raises(Conflict, match="1 machines"):
            Images(state).remove("small")
        async with GuestLink(machine.endpoint, guest_token(KEY, machine.id), uid=machine.uid) as link:
            command = "greet; id -un; git --version; touch /usr/x || ls /opt | grep -v squib"
            done = await link.terminal(TerminalRequest(command, env=small.image.environment))
        assert done.stdout.splitlines()[:2] == ["hello world", "agent"], done
        assert done.stdout.splitlines()[3:] == ["rights", "stamp"], done
