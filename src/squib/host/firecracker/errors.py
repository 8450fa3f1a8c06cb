"""What can go wrong between us and a VMM. All are squib's own trouble, and worth a retry on a new one.

VmmError
├── VmmRefused    it answered no, and why
│   └── LoadFailed    it could not go on from a snapshot; its process ends by itself
├── VmmBusy       it has as many connections as it takes
├── VmmEnded      it is gone, or went in the middle of a request
├── VmmSilent     it does not answer in time: what it did is unknown, so it has to be ended
├── VmmGarbled    it answered what is no answer
└── OutOfOrder    the call does not fit where the machine stands: it was never sent
"""

from squib.contracts.errors import InfrastructureError

_MAX_FAULT = 2000  # characters; a VMM that its guest has taken over may say anything


class VmmError(InfrastructureError):
    """Trouble with a VMM."""

    title = "Trouble with a virtual machine monitor"


class VmmRefused(VmmError):
    """It answered no. `answered` is the HTTP status, `fault` its own reason."""

    def __init__(self, what: str, answered: int, fault: str):
        self.what, self.answered, self.fault = what, answered, fault[:_MAX_FAULT]
        super().__init__(f"Firecracker refused {what}: {self.fault or f'status {answered}'}")


class LoadFailed(VmmRefused):
    """It could not go on from a snapshot, and ends: another attempt needs a new process and a new jail."""


class VmmBusy(VmmError):
    """It takes no further connection."""


class VmmEnded(VmmError):
    """There is none, or none any more."""


class VmmSilent(VmmError):
    """It does not answer in time."""


class VmmGarbled(VmmError):
    """It answered what is no answer."""


class OutOfOrder(VmmError):
    """The call does not fit where the machine stands."""
