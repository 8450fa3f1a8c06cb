"""The calls that squib makes of Firecracker's API, and when each is taken; what it leaves out, and why."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from squib.contracts.errors import InvalidRequest
from squib.host.firecracker import models

_ID = re.compile(r"[A-Za-z0-9_]+", re.ASCII)
_QUICK = 10.0  # seconds
_VCPU = 35.0  # Firecracker itself waits up to 30 s for a processor to pause or to go on
_MEMORY = 300.0  # a snapshot's memory is written and synced


class When(StrEnum):
    """Where the machine must stand for a call."""

    ANY = "at any time"
    BEFORE = "before the machine starts"
    AFTER = "once the machine has started"
    PAUSED = "while the machine is paused"
    FRESH = "before anything else is configured but logs and metrics"


@dataclass(frozen=True, slots=True)
class Call:
    """One request: `path` names a field of the body in braces; `seconds` is how long the answer may take."""

    method: str
    path: str
    when: When
    body: type | None = None
    answer: type | None = None
    seconds: float = _QUICK
    configures: bool = False  # afterwards no snapshot can be loaded

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def target(self, body: Any) -> str:
        """The path with the body's id in it. Raises InvalidRequest for an id that Firecracker would refuse."""
        parts = self.path.split("{")
        if len(parts) == 1:
            return self.path
        name = parts[1].rstrip("}")
        value = str(getattr(body, name))
        if not _ID.fullmatch(value):
            raise InvalidRequest(f"{name}: {value!r} has more than letters, digits and _", fields={name: "malformed"})
        return parts[0] + value


INFO = Call("GET", "/", When.ANY, answer=models.InstanceInfo)
VERSION = Call("GET", "/version", When.ANY, answer=models.FirecrackerVersion)
CONFIG = Call("GET", "/vm/config", When.ANY, answer=models.FullVmConfiguration)
GET_MACHINE = Call("GET", "/machine-config", When.ANY, answer=models.MachineConfiguration)

PUT_LOGGER = Call("PUT", "/logger", When.BEFORE, models.Logger)
PUT_METRICS = Call("PUT", "/metrics", When.BEFORE, models.Metrics)
PUT_SERIAL = Call("PUT", "/serial", When.BEFORE, models.SerialDevice)
PUT_CPU = Call("PUT", "/cpu-config", When.BEFORE, dict)
PUT_MACHINE = Call("PUT", "/machine-config", When.BEFORE, models.MachineConfiguration, configures=True)
PUT_BOOT = Call("PUT", "/boot-source", When.BEFORE, models.BootSource, configures=True)
PUT_DRIVE = Call("PUT", "/drives/{drive_id}", When.BEFORE, models.Drive, configures=True)
PUT_NETWORK = Call("PUT", "/network-interfaces/{iface_id}", When.BEFORE, models.NetworkInterface, configures=True)
PUT_VSOCK = Call("PUT", "/vsock", When.BEFORE, models.Vsock, configures=True)
PUT_ENTROPY = Call("PUT", "/entropy", When.BEFORE, models.EntropyDevice, configures=True)
PUT_MMDS_CONFIG = Call("PUT", "/mmds/config", When.BEFORE, models.MmdsConfig, configures=True)
START = Call("PUT", "/actions", When.BEFORE, models.InstanceActionInfo, seconds=_VCPU)
LOAD = Call("PUT", "/snapshot/load", When.FRESH, models.SnapshotLoadParams, seconds=_VCPU)

PUT_MMDS = Call("PUT", "/mmds", When.ANY, dict)
PATCH_MMDS = Call("PATCH", "/mmds", When.ANY, dict)
GET_MMDS = Call("GET", "/mmds", When.ANY, answer=dict)

PATCH_VM = Call("PATCH", "/vm", When.AFTER, models.Vm, seconds=_VCPU)
PATCH_DRIVE = Call("PATCH", "/drives/{drive_id}", When.AFTER, models.PartialDrive)
PATCH_NETWORK = Call("PATCH", "/network-interfaces/{iface_id}", When.AFTER, models.PartialNetworkInterface)
ACT = Call("PUT", "/actions", When.AFTER, models.InstanceActionInfo)
CREATE_SNAPSHOT = Call("PUT", "/snapshot/create", When.PAUSED, models.SnapshotCreateParams, seconds=_MEMORY)

_BALLOON = "memory is bounded by control groups; a balloon is the guest's best effort"
_PMEM = "a page cache that machines share tells one what another reads"
_HOTPLUG = "a machine's size is known before it starts"
#: What the API has beside.
UNUSED: Mapping[tuple[str, str], str] = {
    ("PATCH", "/machine-config"): "PUT says all of it at once",
    ("GET", "/balloon"): _BALLOON,
    ("PUT", "/balloon"): _BALLOON,
    ("PATCH", "/balloon"): _BALLOON,
    ("GET", "/balloon/statistics"): _BALLOON,
    ("PATCH", "/balloon/statistics"): _BALLOON,
    ("PATCH", "/balloon/hinting/start"): _BALLOON,
    ("GET", "/balloon/hinting/status"): _BALLOON,
    ("PATCH", "/balloon/hinting/stop"): _BALLOON,
    ("PUT", "/pmem/{id}"): _PMEM,
    ("PATCH", "/pmem/{id}"): _PMEM,
    ("GET", "/hotplug/memory"): _HOTPLUG,
    ("PUT", "/hotplug/memory"): _HOTPLUG,
    ("PATCH", "/hotplug/memory"): _HOTPLUG,
}
