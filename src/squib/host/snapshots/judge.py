"""Whether machines can go on from a snapshot here: whole, of this guest, these programs, this processor."""

import os
from collections.abc import Callable
from pathlib import Path

from squib.contracts.errors import SquibError
from squib.host import making, recall
from squib.host.bases import HOST, Base
from squib.host.config import HostConfig
from squib.host.drivers.base import Driver, Freezing
from squib.host.ground import Ground
from squib.host.snapshots import digest
from squib.host.snapshots.store import Stored

#: What changes whenever the host's own programs do: a package manager's records, or else where programs lie.
_HOST_RECORDS = ("/var/lib/dpkg/status", "/var/lib/rpm", "/lib/apk/db/installed", "/usr/bin", "/usr/lib")

Stamp = tuple[tuple[str, int, int, int], ...]


class Judge:
    """Says why not. `driver_of` gives a driver by name, or raises DriverUnavailable."""

    def __init__(self, config: HostConfig, ground: Ground, driver_of: Callable[[str], Driver]):
        self._config = config
        self._ground = ground
        self._driver_of = driver_of

    async def incompatible(self, stored: Stored) -> str | None:
        """Why machines can't go on from it here, by its manifest; None where they can."""
        if (snapshot := stored.snapshot) is None:
            return stored.why_not
        if snapshot.guest != self._ground.guest.name:
            return f"its guest is {snapshot.guest}, here it is {self._ground.guest.name}"
        try:
            base = Base() if snapshot.image == HOST else self._ground.bases.resolve(snapshot.image_name)
            if base.digest != snapshot.image:
                return f"its image {snapshot.image_name} is {snapshot.image[:12]}, here that is {base.digest[:12]}"
            driver = self._driver_of(snapshot.fabric.driver)
            if not isinstance(driver, Freezing):
                return f"{driver.name} goes on from no snapshot"
            difference = snapshot.fabric.differs(await driver.fabric(stored.frozen(base).spec))
        except SquibError as error:
            return error.detail
        if difference is None and snapshot.made_with != made_with(
            self._config, self._ground, snapshot.fabric.driver, base.image
        ):
            return "it was made with other settings, or of other programs of this host"
        return difference


def made_with(config: HostConfig, ground: Ground, driver: str, image: str) -> str:
    """Names the settings, and where the root is the host's own, the state of its programs too."""
    name = making.made_with(config, ground, driver, image)
    if image != HOST:
        return name
    record = next(path for path in map(Path, _HOST_RECORDS) if path.exists())
    return f"{name} {recall.fingerprint(record)}"


def stamp(stored: Stored) -> Stamp:
    """What changes when a part is written to or replaced: cheap to look at. Raises OSError."""
    found = []
    for folder, _, names in os.walk(stored.path):
        for name in names:
            path = Path(folder, name)
            status = path.lstat()
            found.append((str(path.relative_to(stored.path)), status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(sorted(found))


def damage(stored: Stored) -> str | None:
    """Read all parts, which takes a while. Says what is wrong with them; None where they are whole."""
    if stored.snapshot is None:
        return stored.why_not
    wanted = {part.name: part for part in stored.snapshot.parts}
    try:
        there = {name for name, *_ in stamp(stored) if name.startswith("parts/")}
        if strange := there - {f"parts/{name}" for name in wanted}:
            return f"its part {min(strange)} is not in its manifest"
        for name, part in sorted(wanted.items()):
            with open(os.open(stored.parts / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size != part.size:
                    return f"its part {name} has {size} bytes instead of {part.size}"
                if digest.of(file) != part.sha256:
                    return f"its part {name} is damaged"
    except OSError as error:
        return f"its parts can't be read: {error}"
    return None
