"""From method, path and body to what the VMM is to do, as Firecracker's API server reads a request."""

import re
from dataclasses import dataclass
from typing import Any

from squib.testing.firecracker import shapes
from squib.testing.firecracker.fault import Fault
from squib.testing.firecracker.shapes import Misfit, Shape

_BAD_BODY = "An error occurred when deserializing the json body of a request: {}."
_EMPTY = {"PUT": "Empty PUT request.", "PATCH": "Empty PATCH request."}
_ID = re.compile(r"\w+")

#: (method, first part of the path, second) -> what to do and what the body is. `*` is an id.
_TABLE: dict[tuple[str, str, str | None], tuple[str, Shape | None]] = {
    ("PUT", "boot-source", None): ("ConfigureBootSource", shapes.BOOT),
    ("PUT", "cpu-config", None): ("PutCpuConfiguration", shapes.CPU),
    ("PUT", "drives", "*"): ("InsertBlockDevice", shapes.DRIVE),
    ("PUT", "logger", None): ("ConfigureLogger", shapes.LOGGER),
    ("PUT", "serial", None): ("ConfigureSerial", shapes.SERIAL),
    ("PUT", "machine-config", None): ("UpdateMachineConfiguration", shapes.MACHINE),
    ("PUT", "metrics", None): ("ConfigureMetrics", shapes.METRICS),
    ("PUT", "mmds", None): ("PutMMDS", None),
    ("PUT", "mmds", "config"): ("SetMmdsConfiguration", shapes.MMDS_CONFIG),
    ("PUT", "network-interfaces", "*"): ("InsertNetworkDevice", shapes.NETWORK),
    ("PUT", "snapshot", "create"): ("CreateSnapshot", shapes.SNAPSHOT_CREATE),
    ("PUT", "snapshot", "load"): ("LoadSnapshot", shapes.SNAPSHOT_LOAD),
    ("PUT", "vsock", None): ("SetVsockDevice", shapes.VSOCK),
    ("PUT", "entropy", None): ("SetEntropyDevice", shapes.ENTROPY),
    ("PATCH", "drives", "*"): ("UpdateBlockDevice", shapes.DRIVE_UPDATE),
    ("PATCH", "machine-config", None): ("UpdateMachineConfiguration", shapes.MACHINE_UPDATE),
    ("PATCH", "mmds", None): ("PatchMMDS", None),
    ("PATCH", "network-interfaces", "*"): ("UpdateNetworkInterface", shapes.NETWORK_UPDATE),
    ("GET", "", None): ("GetVmInstanceInfo", None),
    ("GET", "version", None): ("GetVmmVersion", None),
    ("GET", "vm", "config"): ("GetFullVmConfig", None),
    ("GET", "machine-config", None): ("GetVmMachineConfig", None),
    ("GET", "mmds", None): ("GetMMDS", None),
}
_ACTIONS = {"InstanceStart": "StartMicroVm", "FlushMetrics": "FlushMetrics", "SendCtrlAltDel": "SendCtrlAltDel"}


@dataclass(frozen=True)
class Wanted:
    """What to do and with what; `deprecated`: the answer says so in a header."""

    action: str
    value: Any = None
    deprecated: bool = False


def read(method: str, path: str, body: bytes) -> Wanted:
    """Understand a request. Raises Fault."""
    first, *rest = path.lstrip("/").rstrip("/").split("/")
    second = rest[0] if rest else None
    if body and method in ("GET", "DELETE"):
        raise Fault(f"{method.capitalize() if method == 'DELETE' else method} request cannot have a body.")
    if not body and method in _EMPTY:
        raise Fault(_EMPTY[method])
    if (method, first) == ("PUT", "actions"):
        return Wanted(_ACTIONS[_body(shapes.ACTION, body)["action_type"]])
    if (method, first) == ("PATCH", "vm"):
        return Wanted("Pause" if _body(shapes.VM, body)["state"] == "Paused" else "Resume")
    found = _TABLE.get((method, first, second)) or _TABLE.get((method, first, "*"))
    if found is None:
        raise _unknown(method, first, second)
    action, shape = found
    if (method, first, "*") in _TABLE:
        _check_id(second)
    value = _body(shape, body) if body else None
    _same_id(first, second, value)
    return _further(action, method, value)


def _body(shape: Shape | None, body: bytes) -> Any:
    try:
        return shapes.read(shape, body)
    except Misfit as error:
        raise Fault(_BAD_BODY.format(error)) from error


def _unknown(method: str, first: str, second: str | None) -> Fault:
    if (method, first) == ("PUT", "snapshot"):
        if second is None:
            return Fault("Missing snapshot operation type.")
        return Fault(f"Invalid request method and/or path: {method} /snapshot/{second}.")
    if (method, first) == ("PUT", "mmds"):
        return Fault(f"Unrecognized PUT request path `{second}`.")
    return Fault(f"Invalid request method and/or path: {method} {first}.")


def _check_id(text: str | None) -> None:
    if not text:
        raise Fault("The ID cannot be empty.")
    if not _ID.fullmatch(text):
        raise Fault("API Resource IDs can only contain alphanumeric characters and underscores.")


def _same_id(first: str, second: str | None, value: Any) -> None:
    name = {"drives": "drive_id", "network-interfaces": "iface_id"}.get(first)
    if name is None or value[name] == second:
        return
    if first == "drives":
        raise Fault("The id from the path does not match the id from the body!")
    raise Fault(f"The id from the path [{second}] does not match the id from the body [{value[name]}]!")


def _further(action: str, method: str, value: Any) -> Wanted:
    """What is looked at beyond the shape: fields that exclude one another, and those that are deprecated."""
    if action == "UpdateMachineConfiguration":
        if method == "PATCH" and all(held is None for held in value.values()):
            raise Fault(_EMPTY["PATCH"])
        full = {"smt": False, "track_dirty_pages": False, "huge_pages": "None"} if method == "PUT" else {}
        return Wanted(action, {**full, **value}, value.get("cpu_template") is not None)
    if action == "LoadSnapshot":
        ways = [value.get("mem_backend"), value.get("mem_file_path")]
        if all(ways):
            raise Fault(
                _BAD_BODY.format("too many fields: either `mem_backend` or `mem_file_path` exclusively is required")
            )
        if not any(ways):
            raise Fault(_BAD_BODY.format("missing field: either `mem_backend` or `mem_file_path` is required"))
        backend = ways[0] or {"backend_type": "File", "backend_path": ways[1]}
        old = bool(ways[1]) or value.get("enable_diff_snapshots", False)
        return Wanted(action, {**value, "mem_backend": backend}, old)
    if action == "SetMmdsConfiguration":
        return Wanted(action, value, value.get("version", "V1") == "V1")
    return Wanted(action, value, action == "SetVsockDevice" and value.get("vsock_id") is not None)
