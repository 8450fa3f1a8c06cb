"""The drivers by name, strongest first; each is imported when it is asked for."""

import importlib
from typing import cast

from squib.contracts.errors import DriverUnavailable
from squib.host.drivers.base import Driver
from squib.host.ground import Ground

DRIVERS = {
    "gvisor": "squib.host.drivers.gvisor:GvisorDriver",
    "bubblewrap": "squib.host.drivers.bubblewrap:BubblewrapDriver",
    "process": "squib.host.drivers.process:ProcessDriver",
}
#: What `auto` tries, in order. `process` isolates nothing and is never among them.
AUTOMATIC = ("gvisor", "bubblewrap")


def make(name: str, ground: Ground) -> Driver:
    """The driver of that name. Raises DriverUnavailable for an unknown one."""
    if name not in DRIVERS:
        raise DriverUnavailable(f"there is no driver {name!r}", advice=f"Name one of {', '.join(DRIVERS)}, or auto.")
    module, _, attribute = DRIVERS[name].partition(":")
    return cast(Driver, getattr(importlib.import_module(module), attribute)(ground))
