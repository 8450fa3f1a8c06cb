"""The bodies that the API takes, as its deserializer reads them, with its words for what does not fit."""

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_INTEGERS = {"u8": 8, "u16": 16, "u32": 32, "u64": 64, "usize": 64}
_MAC = re.compile(r"([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")


class Misfit(Exception):
    """A value that does not fit, in serde's words."""


@dataclass(frozen=True)
class Shape:
    """An object. `open`: unknown fields are passed over; all others refuse them."""

    name: str
    required: Mapping[str, Any] = field(default_factory=dict)
    optional: Mapping[str, Any] = field(default_factory=dict)
    open: bool = False


@dataclass(frozen=True)
class Option:
    """A value that may be null."""

    kind: Any


def _options(**kinds: Any) -> dict[str, Option]:
    return {name: Option(kind) for name, kind in kinds.items()}


_BUCKET = Shape("TokenBucketConfig", {"size": "u64", "refill_time": "u64"}, _options(one_time_burst="u64"), open=True)
_LIMITER = Shape("RateLimiterConfig", {}, _options(bandwidth=_BUCKET, ops=_BUCKET))
_TEMPLATES = ("C3", "T2", "T2S", "T2CL", "T2A", "V1N1", "None")
_PAGES = ("None", "Transparent", "2M")
_LEVELS = ("Error", "Warning", "Info", "Debug", "Trace", "Off")
_MACHINE = {"smt": "bool", "cpu_template": Option(_TEMPLATES), "track_dirty_pages": "bool", "huge_pages": _PAGES}

ACTION = Shape("ActionBody", {"action_type": ("FlushMetrics", "InstanceStart", "SendCtrlAltDel")})
BOOT = Shape("BootSourceConfig", {"kernel_image_path": "string"}, _options(initrd_path="string", boot_args="string"))
CPU = Shape(
    "CustomCpuTemplate",
    {},
    {name: ["any"] for name in ("kvm_capabilities", "cpuid_modifiers", "msr_modifiers", "vcpu_features")},
)
DRIVE = Shape(
    "BlockDeviceConfig",
    {"drive_id": "string", "is_root_device": "bool"},
    {
        "cache_type": ("Unsafe", "Writeback"),
        **_options(partuuid="string", is_read_only="bool", path_on_host="string", rate_limiter=_LIMITER),
        **_options(io_engine=("Sync", "Async"), socket="string"),
    },
)
DRIVE_UPDATE = Shape(
    "BlockDeviceUpdateConfig", {"drive_id": "string"}, _options(path_on_host="string", rate_limiter=_LIMITER)
)
ENTROPY = Shape("EntropyDeviceConfig", {}, _options(rate_limiter=_LIMITER))
LOGGER = Shape(
    "LoggerConfig",
    {},
    _options(log_path="string", level="level", show_level="bool", show_log_origin="bool", module="string"),
)
MACHINE = Shape("MachineConfig", {"vcpu_count": "u8", "mem_size_mib": "usize"}, _MACHINE)
MACHINE_UPDATE = Shape(
    "MachineConfigUpdate",
    {},
    _options(vcpu_count="u8", mem_size_mib="usize", smt="bool", cpu_template=_TEMPLATES)
    | _options(track_dirty_pages="bool", huge_pages=_PAGES),
)
METRICS = Shape(
    "MetricsConfig", {"metrics_path": "string"}, {"emit_id": "bool", "properties": Option("any")}, open=True
)
MMDS_CONFIG = Shape(
    "MmdsConfig",
    {"network_interfaces": ["string"]},
    {"version": ("V1", "V2"), "ipv4_address": Option("ipv4"), "imds_compat": "bool"},
)
NETWORK = Shape(
    "NetworkInterfaceConfig",
    {"iface_id": "string", "host_dev_name": "string"},
    _options(guest_mac="mac", mtu="u16", rx_rate_limiter=_LIMITER, tx_rate_limiter=_LIMITER),
)
NETWORK_UPDATE = Shape(
    "NetworkInterfaceUpdateConfig",
    {"iface_id": "string"},
    _options(rx_rate_limiter=_LIMITER, tx_rate_limiter=_LIMITER),
)
SERIAL = Shape("SerialConfig", {}, _options(serial_out_path="string", rate_limiter=_BUCKET))
SNAPSHOT_CREATE = Shape(
    "CreateSnapshotParams",
    {"snapshot_path": "string", "mem_file_path": "string"},
    {"snapshot_type": ("Diff", "Full")},
)
_BACKEND = Shape("MemBackendConfig", {"backend_path": "string", "backend_type": ("File", "Uffd")})
_NETWORK_OVERRIDE = Shape("NetworkOverride", {"iface_id": "string", "host_dev_name": "string"}, open=True)
SNAPSHOT_LOAD = Shape(
    "LoadSnapshotConfig",
    {"snapshot_path": "string"},
    {
        **_options(mem_file_path="string", mem_backend=_BACKEND),
        "enable_diff_snapshots": "bool",
        "track_dirty_pages": "bool",
        "resume_vm": "bool",
        "network_overrides": [_NETWORK_OVERRIDE],
        "vsock_override": Option(Shape("VsockOverride", {"uds_path": "string"}, open=True)),
        "clock_realtime": "bool",
        "huge_pages": ("Snapshot", "None", "Transparent", "2M"),
    },
)
VM = Shape("Vm", {"state": ("Paused", "Resumed")})
VSOCK = Shape("VsockDeviceConfig", {"guest_cid": "u32", "uds_path": "string"}, _options(vsock_id="string"))


def read(shape: Shape | None, raw: bytes) -> Any:
    """A body's value; without a shape any JSON. Raises Misfit, with a position as serde gives it, about."""
    try:
        value = json.loads(raw)
    except ValueError as error:
        column = getattr(error, "colno", 0)
        raise Misfit(f"expected value at line 1 column {column}") from error
    try:
        if shape is not None:
            _object(shape, value)
    except Misfit as error:
        raise Misfit(f"{error} at line 1 column {len(raw)}") from None
    return value


def _object(shape: Shape, value: Any) -> None:
    if not isinstance(value, dict):
        raise Misfit(f"invalid type: {_name(value)}, expected struct {shape.name}")
    kinds = {**shape.required, **shape.optional}
    for name, held in value.items():
        if name in kinds:
            _check(kinds[name], held)
        elif not shape.open:
            raise Misfit(f"unknown field `{name}`, {_expected(list(kinds))}")
    for name in shape.required:
        if name not in value:
            raise Misfit(f"missing field `{name}`")


def _check(kind: Any, value: Any) -> None:
    if isinstance(kind, Option):
        if value is not None:
            _check(kind.kind, value)
    elif isinstance(kind, Shape):
        _object(kind, value)
    elif isinstance(kind, tuple):
        _expect(isinstance(value, str), value, "a string")
        if value not in kind:
            raise Misfit(f"unknown variant `{value}`, {_expected(kind)}")
    elif isinstance(kind, list):
        _expect(isinstance(value, list), value, "a sequence")
        for held in value:
            _check(kind[0], held)
    else:
        _scalar(kind, value)


def _scalar(kind: str, value: Any) -> None:
    if kind == "bool":
        _expect(isinstance(value, bool), value, "a boolean")
    elif kind in _INTEGERS:
        _expect(isinstance(value, int) and not isinstance(value, bool), value, kind)
        if not 0 <= value < 2 ** _INTEGERS[kind]:
            raise Misfit(f"invalid value: integer `{value}`, expected {kind}")
    elif kind != "any":
        _expect(isinstance(value, str), value, "a string")
        if kind == "level" and value.lower() not in [level.lower() for level in _LEVELS]:
            raise Misfit("Invalid LevelFilter")
        if kind == "mac" and not _MAC.fullmatch(value):
            raise Misfit(f'Invalid MAC address: "{value}"')
        if kind == "ipv4" and not _ipv4(value):
            raise Misfit("invalid IPv4 address syntax")


def _ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _expect(holds: bool, value: Any, what: str) -> None:
    if not holds:
        raise Misfit(f"invalid type: {_name(value)}, expected {what}")


def _expected(names: Any) -> str:
    quoted = [f"`{name}`" for name in names]
    if len(quoted) <= 2:
        return "expected " + " or ".join(quoted)
    return "expected one of " + ", ".join(quoted)


def _name(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return f"boolean `{str(value).lower()}`"
        case int():
            return f"integer `{value}`"
        case float():
            return f"floating point `{value}`"
        case str():
            return f'string "{value}"'
        case list():
            return "sequence"
        case _:
            return "map"
