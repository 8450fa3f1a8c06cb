"""The bodies and answers of Firecracker's API, field for field as its description names them.

A field that is None is left out of a body (`body.dump`): that is how Firecracker's own defaults are asked for.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class InstanceState(StrEnum):
    """Where the machine of a VMM stands."""

    NOT_STARTED = "Not started"
    RUNNING = "Running"
    PAUSED = "Paused"


class VmState(StrEnum):
    """What a machine that has started can be told to do."""

    PAUSED = "Paused"
    RESUMED = "Resumed"


class Action(StrEnum):
    """What PUT /actions does."""

    INSTANCE_START = "InstanceStart"
    FLUSH_METRICS = "FlushMetrics"
    SEND_CTRL_ALT_DEL = "SendCtrlAltDel"


class SnapshotType(StrEnum):
    """All of the memory, or what was written since an earlier snapshot (a developer's preview)."""

    FULL = "Full"
    DIFF = "Diff"


class BackendType(StrEnum):
    """Who serves a restored machine's memory: a file, or a process behind a socket (userfaultfd)."""

    FILE = "File"
    UFFD = "Uffd"


class HugePages(StrEnum):
    """What backs a machine's memory. Transparent is not known to 1.16."""

    NONE = "None"
    TRANSPARENT = "Transparent"
    TWO_MIB = "2M"


class MmdsVersion(StrEnum):
    """V2 wants a session token with each of the guest's requests; V1 is deprecated."""

    V1 = "V1"
    V2 = "V2"


class LogLevel(StrEnum):
    """How much is logged."""

    ERROR = "Error"
    WARNING = "Warning"
    INFO = "Info"
    DEBUG = "Debug"
    TRACE = "Trace"
    OFF = "Off"


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """`size` tokens, refilled within `refill_time` milliseconds, after a first burst. 0 switches it off."""

    size: int
    refill_time: int
    one_time_burst: int | None = None


@dataclass(frozen=True, slots=True)
class RateLimiter:
    """Bytes and operations, each bounded by a bucket of its own."""

    bandwidth: TokenBucket | None = None
    ops: TokenBucket | None = None


@dataclass(frozen=True, slots=True)
class MachineConfiguration:
    """Processors (1 to 32) and memory in MiB. `cpu_template` is deprecated, and read only."""

    vcpu_count: int
    mem_size_mib: int
    smt: bool = False
    track_dirty_pages: bool = False
    huge_pages: HugePages | None = None
    cpu_template: str | None = None


@dataclass(frozen=True, slots=True)
class BootSource:
    """The kernel and its command line, to which Firecracker adds root= and, without PCI, pci=off."""

    kernel_image_path: str
    boot_args: str | None = None
    initrd_path: str | None = None


@dataclass(frozen=True, slots=True)
class Drive:
    """A block device, opened at once: a file that is missing is refused then."""

    drive_id: str
    is_root_device: bool
    path_on_host: str | None = None
    is_read_only: bool | None = None
    cache_type: str | None = None
    rate_limiter: RateLimiter | None = None
    io_engine: str | None = None
    partuuid: str | None = None
    socket: str | None = None


@dataclass(frozen=True, slots=True)
class PartialDrive:
    """What of a block device can change while the machine is there; absent fields stay."""

    drive_id: str
    path_on_host: str | None = None
    rate_limiter: RateLimiter | None = None


@dataclass(frozen=True, slots=True)
class NetworkInterface:
    """A network device on a tap, which is attached at once. `host_dev_name` has at most 15 bytes."""

    iface_id: str
    host_dev_name: str
    guest_mac: str | None = None
    mtu: int | None = None
    rx_rate_limiter: RateLimiter | None = None
    tx_rate_limiter: RateLimiter | None = None


@dataclass(frozen=True, slots=True)
class PartialNetworkInterface:
    """What of a network device can change while the machine is there; absent fields stay."""

    iface_id: str
    rx_rate_limiter: RateLimiter | None = None
    tx_rate_limiter: RateLimiter | None = None


@dataclass(frozen=True, slots=True)
class Vsock:
    """A vsock device. Its socket is bound at once: the path must be free."""

    guest_cid: int
    uds_path: str


@dataclass(frozen=True, slots=True)
class EntropyDevice:
    """A source of randomness for the guest."""

    rate_limiter: RateLimiter | None = None


@dataclass(frozen=True, slots=True)
class SerialDevice:
    """Where the serial console goes, which the guest may switch on although it is told not to: bound it."""

    serial_out_path: str | None = None
    rate_limiter: TokenBucket | None = None


@dataclass(frozen=True, slots=True)
class Logger:
    """Where the log goes."""

    log_path: str | None = None
    level: LogLevel | None = None
    show_level: bool | None = None
    show_log_origin: bool | None = None
    module: str | None = None


@dataclass(frozen=True, slots=True)
class Metrics:
    """Where a line of metrics goes each minute."""

    metrics_path: str


@dataclass(frozen=True, slots=True)
class MmdsConfig:
    """The metadata service, on interfaces that are there already."""

    network_interfaces: tuple[str, ...]
    version: MmdsVersion = MmdsVersion.V2
    ipv4_address: str | None = None
    imds_compat: bool | None = None


@dataclass(frozen=True, slots=True)
class Vm:
    """The state that a machine is to be in."""

    state: VmState


@dataclass(frozen=True, slots=True)
class InstanceActionInfo:
    """The action to do."""

    action_type: Action


@dataclass(frozen=True, slots=True)
class SnapshotCreateParams:
    """Where a paused machine's state and memory are written, in the VMM's own view of paths."""

    snapshot_path: str
    mem_file_path: str
    snapshot_type: SnapshotType = SnapshotType.FULL


@dataclass(frozen=True, slots=True)
class MemoryBackend:
    """Where a restored machine's memory comes from. A file must stay unchanged while the machine lives."""

    backend_path: str
    backend_type: BackendType = BackendType.FILE


@dataclass(frozen=True, slots=True)
class NetworkOverride:
    """Another tap for a network device."""

    iface_id: str
    host_dev_name: str


@dataclass(frozen=True, slots=True)
class VsockOverride:
    """Another socket for the vsock device."""

    uds_path: str


@dataclass(frozen=True, slots=True)
class SnapshotLoadParams:
    """A snapshot to go on from. `clock_realtime` is for x86 alone; `huge_pages` is not known to 1.16."""

    snapshot_path: str
    mem_backend: MemoryBackend
    resume_vm: bool = False
    track_dirty_pages: bool = False
    network_overrides: tuple[NetworkOverride, ...] | None = None
    vsock_override: VsockOverride | None = None
    clock_realtime: bool | None = None
    huge_pages: str | None = None


@dataclass(frozen=True, slots=True)
class InstanceInfo:
    """Who the VMM is and where its machine stands."""

    app_name: str
    id: str
    state: InstanceState
    vmm_version: str


@dataclass(frozen=True, slots=True)
class FirecrackerVersion:
    """Which Firecracker it is."""

    firecracker_version: str


@dataclass(frozen=True, slots=True)
class FullVmConfiguration:
    """All that was configured. Of a restored machine the boot source is empty."""

    drives: tuple[Drive, ...] = ()
    network_interfaces: tuple[NetworkInterface, ...] = ()
    boot_source: dict[str, Any] | None = None
    machine_config: MachineConfiguration | None = None
    vsock: Vsock | None = None
    entropy: EntropyDevice | None = None
    mmds_config: MmdsConfig | None = None
    logger: Logger | None = None
    metrics: Metrics | None = None
