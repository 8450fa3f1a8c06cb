"""The drivers by name, strongest first; each is imported when it is asked for."""

import importlib
from typing import cast

from squib.contracts.errors import DriverUnavailable
from squib.host.drivers.base import Driver
from squib.host.ground import Ground

DRIVERS = {
    "qemu": "squib.host.drivers.qemu:QemuDriver",
    "gvisor": "squib.host.drivers.gvisor:GvisorDriver",
    "container": "squib.host.drivers.container:ContainerDriver",
    "bubblewrap": "squib.host.drivers.bubblewrap:BubblewrapDriver",
    "process": "squib.host.drivers.process:ProcessDriver",
}
#: What `auto` tries, in order, passing by those that emulate the processor. `process` isolates nothing and is never
#: among them. A container has all that a sandbox of bubblewrap has (a user of its own outside, no capability, no
#: network, the same filter), and what its engine adds (hidden parts of /proc, a profile of the system's), so that it
#: goes first; bubblewrap starts sooner.
AUTOMATIC = ("qemu", "gvisor", "container", "bubblewrap")


def make(name: str, ground: Ground) -> Driver:
    """The driver of that name. Raises DriverUnavailable for an unknown one."""
    if name not in DRIVERS:
        raise DriverUnavailable(f"there is no driver {name!r}", advice=f"Name one of {', '.join(DRIVERS)}, or auto.")
    module, _, attribute = DRIVERS[name].partition(":")
    return cast(Driver, getattr(importlib.import_module(module), attribute)(ground))
