"""Snapshots of the stand-in VMM: what it makes of good ones and of damaged ones."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from squib.testing.firecracker import snapshot
from tests.testing.vmm import Files, Line, running, start

NOT_AFTER = "The requested operation is not supported after starting the microVM."


async def take(line: Line, parts: Files) -> dict[str, Any]:
    """A snapshot; gives what loads it."""
    drive = {"drive_id": "a", "is_root_device": False, "path_on_host": parts.overlay, "is_read_only": False}
    await line.does("PUT", "/drives/a", drive)
    await line.does("PUT", "/machine-config", {"vcpu_count": 2, "mem_size_mib": 2})
    await start(line, parts)
    await line.does("PATCH", "/vm", {"state": "Paused"})
    await line.does("PUT", "/snapshot/create", {"snapshot_path": parts.state, "mem_file_path": parts.memory})
    backend = {"backend_type": "File", "backend_path": parts.memory}
    return {"snapshot_path": parts.state, "mem_backend": backend}


LOAD = "Load snapshot error: Failed to restore from snapshot: "
STATE = f"{LOAD}Failed to get snapshot state from file: "
MEMORY = f"{LOAD}Failed to load guest memory: Error creating guest memory from file: "


def damage(path: str, kind: str) -> None:
    file = Path(path)
    match kind:
        case "gone":
            file.unlink()
        case "short":
            file.write_bytes(file.read_bytes()[:-1])
        case "empty":
            file.write_bytes(b"")
        case "older":
            _, state = snapshot.parse(file.read_bytes())
            snapshot.create({"snapshot_path": path, "mem_file_path": f"{path}.memory"}, "10.0.0", state, 2)


@pytest.mark.parametrize(
    ("which", "kind", "text"),
    [
        ("state", "gone", f"{STATE}Failed to open snapshot file: No such file or directory (os error 2)"),
        ("state", "short", f"{STATE}Failed to load snapshot state from file: CRC64 validation failed"),
        (
            *("state", "empty"),
            f"{STATE}Failed to load snapshot state from file: IO Error: File too short to contain CRC",
        ),
        ("state", "older", f"{STATE}Failed to load snapshot state from file: Invalid data version: 10.0.0"),
        ("memory", "gone", f"{MEMORY}Failed to load guest memory: No such file or directory (os error 2)"),
        (
            *("memory", "short"),
            f"{MEMORY}Failed to restore guest memory: Total sum of memory regions exceeds largest possible file "
            "offset",
        ),
        (
            *("overlay", "gone"),
            f"{LOAD}Failed to build microVM from snapshot: Failed to restore devices: Error restoring MMIO devices: "
            "Block: Virtio backend error: Error manipulating the backing file: No such file or directory (os error "
            "2) ",
        ),
    ],
)
async def test_a_damaged_snapshot_ends_the_process(
    line: Line, parts: Files, shared_tmp: Path, which: str, kind: str, text: str
) -> None:
    load = await take(line, parts)
    damage(getattr(parts, which), kind)
    async with running(shared_tmp / "clone") as vmm:
        reader, writer = await asyncio.open_unix_connection(vmm.socket)
        fault = await Line(reader, writer, vmm).fault("PUT", "/snapshot/load", load)
        assert fault.startswith(text)
        assert await vmm.ended == 1
        assert await reader.read() == b""
        writer.close()


async def test_an_unknown_interface_ends_it_too(line: Line, parts: Files, shared_tmp: Path) -> None:
    load = await take(line, parts)
    async with running(shared_tmp / "clone") as vmm:
        reader, writer = await asyncio.open_unix_connection(vmm.socket)
        load["network_overrides"] = [{"iface_id": "none", "host_dev_name": "tap0"}]
        assert (
            await Line(reader, writer, vmm).fault("PUT", "/snapshot/load", load) == f"{STATE}Unknown Network Device."
        )
        assert await vmm.ended == 1
        writer.close()


async def test_a_good_one_is_paused_until_it_is_told_to_go_on(line: Line, parts: Files, shared_tmp: Path) -> None:
    load = await take(line, parts)
    async with running(shared_tmp / "clone") as vmm:
        reader, writer = await asyncio.open_unix_connection(vmm.socket)
        clone = Line(reader, writer, vmm)
        await clone.does("PUT", "/logger", {"log_path": str(shared_tmp / "log")})
        await clone.does("PUT", "/snapshot/load", load)
        assert (await clone.ask("GET", "/"))[1]["state"] == "Paused"
        assert (await clone.ask("GET", "/machine-config"))[1]["vcpu_count"] == 2
        assert (await clone.ask("GET", "/vm/config"))[1]["boot-source"]["kernel_image_path"] == ""
        assert await clone.fault("PUT", "/snapshot/load", load) == NOT_AFTER
        await clone.does("PATCH", "/vm", {"state": "Resumed"})
        assert (await clone.ask("GET", "/"))[1]["state"] == "Running"
        writer.close()


async def test_a_load_after_a_configuration_is_harmless(line: Line, parts: Files) -> None:
    await line.does("PUT", "/boot-source", {"kernel_image_path": parts.kernel})
    load = {"snapshot_path": "/none", "mem_backend": {"backend_type": "File", "backend_path": "/none"}}
    text = "Load snapshot error: Loading a microVM snapshot not allowed after configuring boot-specific resources."
    assert await line.fault("PUT", "/snapshot/load", load) == text
    assert (await line.ask("GET", "/"))[0] == 200
