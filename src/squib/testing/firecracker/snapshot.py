"""Snapshots: a state file with a header and a checksum, and a memory file as long as the memory.

The memory file is sparse; `guest` puts into it what a machine here remembers.
"""

import errno
import json
import os
import zlib
from pathlib import Path
from typing import Any

from squib.testing.firecracker.fault import Fatal, Fault, os_text

_MAGIC = (0x0710_1984_8664_0000).to_bytes(8, "little")
_CHECK = 8  # bytes of the checksum: of 64 bits in the real one
_MIB = 1024 * 1024
_LOAD = "Load snapshot error: Failed to restore from snapshot: "
_STATE = _LOAD + "Failed to get snapshot state from file: "
_MEMORY = _LOAD + "Failed to load guest memory: Error creating guest memory from file: "


class BadState(Exception):
    """A state file that is none, or another version's."""


def create(value: dict[str, Any], version: str, state: dict[str, Any], memory: int) -> None:
    """Write state, then memory (MiB), both synced. Raises Fault."""
    body = _MAGIC + json.dumps({"version": version, "state": state}).encode()
    try:
        _write(Path(value["snapshot_path"]), body + zlib.crc32(body).to_bytes(_CHECK, "little"))
    except OSError as error:
        raise Fault(
            f"Create snapshot error: Cannot perform open on the snapshot backing file: {os_text(error)}"
        ) from error
    try:
        _fill(Path(value["mem_file_path"]), memory * _MIB)
    except OSError as error:
        raise Fault(
            f"Create snapshot error: Cannot perform open on the memory backing file: {os_text(error)}"
        ) from error


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _fill(path: Path, size: int) -> None:
    """A file of the right size keeps its content: a clone may have it mapped."""
    with path.open("r+b" if path.exists() else "wb") as file:
        if file.seek(0, os.SEEK_END) != size:
            file.truncate(0)
            _find_room(file.fileno(), size)
        file.truncate(size)
        os.fsync(file.fileno())


def _find_room(descriptor: int, size: int) -> None:
    """The real one's file has no holes."""
    disk = os.fstatvfs(descriptor)
    if disk.f_bavail * disk.f_frsize < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def parse(raw: bytes) -> tuple[str, dict[str, Any]]:
    """The version and the state in a state file. Raises BadState."""
    if len(raw) < _CHECK:
        raise BadState("IO Error: File too short to contain CRC")
    body, check = raw[:-_CHECK], raw[-_CHECK:]
    if not body.startswith(_MAGIC):
        raise BadState(f"Magic value does not match arch: {int.from_bytes(body[:8], 'little')}")
    if zlib.crc32(body).to_bytes(_CHECK, "little") != check:
        raise BadState("CRC64 validation failed")
    document = json.loads(body[len(_MAGIC) :])
    return document["version"], document["state"]


def load(value: dict[str, Any], version: str) -> dict[str, Any]:
    """The state of the snapshot that a request names, once its memory file is found good too. Raises Fatal."""
    try:
        found, state = parse(Path(value["snapshot_path"]).read_bytes())
    except OSError as error:
        raise Fatal(f"{_STATE}Failed to open snapshot file: {os_text(error)}") from error
    except BadState as error:
        raise Fatal(f"{_STATE}Failed to load snapshot state from file: {error}") from error
    if found.split(".")[0] != version.split(".")[0]:
        raise Fatal(f"{_STATE}Failed to load snapshot state from file: Invalid data version: {found}")
    _override(value, state)
    if value["mem_backend"]["backend_type"] == "Uffd":
        raise Fatal(f"{_LOAD}Failed to load guest memory: the stand-in has no userfaultfd")
    try:
        size = Path(value["mem_backend"]["backend_path"]).stat().st_size
    except OSError as error:
        raise Fatal(f"{_MEMORY}Failed to load guest memory: {os_text(error)}") from error
    if size < state["machine"]["mem_size_mib"] * _MIB:
        text = "Failed to restore guest memory: Total sum of memory regions exceeds largest possible file offset"
        raise Fatal(_MEMORY + text)
    return state


def _override(value: dict[str, Any], state: dict[str, Any]) -> None:
    for entry in value.get("network_overrides", []):
        interface = next((held for held in state["nets"] if held["iface_id"] == entry["iface_id"]), None)
        if interface is None:
            raise Fatal(f"{_STATE}Unknown Network Device.")
        interface["host_dev_name"] = entry["host_dev_name"]
    if value.get("vsock_override") is not None:
        if state["vsock"] is None:
            raise Fatal(f"{_STATE}Unknown Vsock Device.")
        state["vsock"]["uds_path"] = value["vsock_override"]["uds_path"]
