"""One bench a driver and session: what probing it found, and a snapshot of it, so that each is made once."""

import asyncio
import shutil
import tempfile
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from squib.contracts.machine import Capability
from squib.host import HostConfig, probes
from squib.host.drivers import registry
from squib.host.snapshots import Stored, build
from tests.needs import IMAGES

KEY = b"k" * 32
IMAGE = "python"


@dataclass
class Watcher:
    """Remembers what it was told."""

    steps: list[str] = field(default_factory=list)

    def step(self, name: str, number: int, total: int) -> None:
        self.steps.append(name)

    def line(self, text: str) -> None:
        pass


class Bench:
    """A state directory that lasts as long as the tests do."""

    def __init__(self, driver: str):
        self.state = Path(tempfile.mkdtemp(prefix="sq-", dir="/tmp"))
        self.state.chmod(0o711)
        show_images(self.state)
        self._driver = driver

    @property
    def config(self) -> HostConfig:
        """Of hosts that may use the bench's snapshot: of an image, where there is one, as most are."""
        there = (IMAGES / "images" / "names" / IMAGE).exists()
        return replace(self.plain, image=IMAGE if there else self.image)

    @cached_property
    def plain(self) -> HostConfig:
        return HostConfig(self.state, KEY, driver=self._driver, pool_size=0)

    @cached_property
    def capability(self) -> Capability:
        """What the driver can do here. To be asked for outside of an event loop."""
        return asyncio.run(self._probe())

    @property
    def image(self) -> str | None:
        """What machines are made of: an image for those drivers alone that need one."""
        return IMAGE if self.capability.needs_image else None

    @cached_property
    def stored(self) -> Stored:
        """A snapshot, built once. To be asked for outside of an event loop."""
        assert self.capability.snapshot
        return asyncio.run(build(self.config, None, Watcher()))

    def teach(self, state: Path) -> None:
        """Let another state directory know what probing has found, and the images."""
        show_images(state)
        for path in self.state.glob("probe-*.json"):
            shutil.copy(path, state)

    def close(self) -> None:
        shutil.rmtree(self.state, ignore_errors=True)

    async def _probe(self) -> Capability:
        ground = await probes.ground(self.plain, probing=True)
        with closing(ground.children), closing(ground.groups):
            found = await registry.make(self._driver, ground).probe()
        assert found.works, found
        return found


def show_images(state: Path) -> None:
    """Let machines of that state directory be made of the images, and of the kernel, that set-up has made."""
    for name in ("images", "kernel"):
        if (IMAGES / name).is_dir() and not (state / name).exists():
            (state / name).symlink_to(IMAGES / name)
