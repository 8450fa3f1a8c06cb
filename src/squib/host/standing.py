"""How a host stands, as it tells others."""

from collections import Counter

from squib import __version__
from squib.contracts.host import HostStatus, PoolCount
from squib.contracts.machine import Capability, MachinePhase
from squib.host import admission
from squib.host.fleet import Fleet


def status(fleet: Fleet, capability: Capability) -> HostStatus:
    """What the host has to give, what of it is promised, and what waits. Raises OSError."""
    waiting = Counter((m.spec.image_name, m.driver) for m in fleet.in_phase(MachinePhase.READY))
    return HostStatus(
        version=__version__,
        capability=capability,
        capacity=admission.capacity(fleet.config),
        used=fleet.used(),
        sandboxes=len(fleet.in_phase(MachinePhase.CLAIMED)),
        suspended=len(fleet.in_phase(MachinePhase.SUSPENDED)),
        free_disk=admission.free_disk(fleet.ground.state.root),
        pools=tuple(PoolCount(image, driver, count) for (image, driver), count in sorted(waiting.items())),
    )
