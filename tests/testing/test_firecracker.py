"""The stand-in VMM's answers: texts, states, limits. `tests/host/firecracker` has the order of requests."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.testing.vmm import Files, Line, start

BAD_BODY = "An error occurred when deserializing the json body of a request: "
NOT_AFTER = "The requested operation is not supported after starting the microVM."
NOT_BEFORE = "The requested operation is not supported before starting the microVM."


async def test_answers_as_the_real_server_writes_them(line: Line) -> None:
    head, body = await line.raw(b"GET / HTTP/1.1\r\n\r\n")
    assert head == (
        "HTTP/1.1 200 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    assert json.loads(body) == {
        "id": "mch-1",
        "state": "Not started",
        "vmm_version": "1.17.0-dev",
        "app_name": "Firecracker",
    }
    body = b'{"vcpu_count":1,"mem_size_mib":128}'
    request = b"PUT /machine-config HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    assert await line.raw(request) == (
        "HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n",
        b"",
    )


@pytest.mark.parametrize(
    ("method", "path", "body", "text"),
    [
        ("GET", "/vm", None, "Invalid request method and/or path: GET vm."),
        ("GET", "/none", None, "Invalid request method and/or path: GET none."),
        ("PUT", "/none", {}, "Invalid request method and/or path: PUT none."),
        ("PUT", "/vm", {}, "Invalid request method and/or path: PUT vm."),
        ("PUT", "/snapshot/none", {}, "Invalid request method and/or path: PUT /snapshot/none."),
        ("PUT", "/snapshot", {}, "Missing snapshot operation type."),
        ("PUT", "/machine-config", None, "Empty PUT request."),
        ("PATCH", "/vm", None, "Empty PATCH request."),
        ("PUT", "/drives", {}, "The ID cannot be empty."),
        (*("PUT", "/drives/a-b", {}), "API Resource IDs can only contain alphanumeric characters and underscores."),
        ("GET", "/version", {}, "GET request cannot have a body."),
        (
            *("PUT", "/drives/a", {"drive_id": "b", "is_root_device": True}),
            "The id from the path does not match the id from the body!",
        ),
        (
            *("PUT", "/network-interfaces/a", {"iface_id": "b", "host_dev_name": "c"}),
            "The id from the path [a] does not match the id from the body [b]!",
        ),
        (
            *("PUT", "/machine-config", {"mem_size_mib": 128}),
            f"{BAD_BODY}missing field `vcpu_count` at line 1 column 21.",
        ),
        (
            *("PUT", "/machine-config", {"vcpu_count": "1", "mem_size_mib": 1}),
            f'{BAD_BODY}invalid type: string "1", expected u8 at line 1 column 38.',
        ),
        (
            *("PUT", "/machine-config", {"vcpu_count": 256, "mem_size_mib": 1}),
            f"{BAD_BODY}invalid value: integer `256`, expected u8 at line 1 column 38.",
        ),
        (
            *("PUT", "/machine-config", {"vcpu_count": 33, "mem_size_mib": 1}),
            "Machine config error: The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even "
            "number if SMT is enabled.",
        ),
        (
            *("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 0}),
            "Machine config error: The memory size (MiB) is either 0, or not a multiple of the configured page size.",
        ),
        (
            *("PATCH", "/vm", {"state": "Stopped"}),
            f"{BAD_BODY}unknown variant `Stopped`, expected `Paused` or `Resumed` at line 1 column 20.",
        ),
        (
            *("PUT", "/entropy", {"size": 1}),
            f"{BAD_BODY}unknown field `size`, expected `rate_limiter` at line 1 column 11.",
        ),
        (
            *("PUT", "/snapshot/load", {"snapshot_path": "/a"}),
            f"{BAD_BODY}missing field: either `mem_backend` or `mem_file_path` is required.",
        ),
        (
            *("PUT", "/boot-source", {"kernel_image_path": "/none"}),
            "Boot source error: The kernel file cannot be opened: No such file or directory (os error 2)",
        ),
        (
            *("PUT", "/actions", {"action_type": "InstanceStart"}),
            "Start microvm error: Cannot start microvm without kernel configuration.",
        ),
        (
            *("PUT", "/mmds/config", {"network_interfaces": []}),
            "MMMDS config error: The list of network interface IDs that allow forwarding MMDS requests is empty.",
        ),
        (
            *("PUT", "/mmds/config", {"network_interfaces": ["a"], "ipv4_address": "10.0.0.1"}),
            "MMMDS config error: The MMDS IPv4 address is not link local.",
        ),
        ("PATCH", "/mmds", {}, "MMDS error: The MMDS data store is not initialized."),
        ("PUT", "/snapshot/create", {"snapshot_path": "/a", "mem_file_path": "/b"}, NOT_BEFORE),
        ("PATCH", "/vm", {"state": "Paused"}, NOT_BEFORE),
    ],
)
async def test_what_is_refused_before_the_start(line: Line, method: str, path: str, body: Any, text: str) -> None:
    assert await line.fault(method, path, body) == text


async def test_what_is_no_json(line: Line) -> None:
    assert (await line.fault("PUT", "/boot-source", b"{rubbish")).startswith(f"{BAD_BODY}expected value at line 1")


async def test_what_is_refused_afterwards(line: Line, parts: Files) -> None:
    await start(line, parts)
    assert await line.fault("PUT", "/boot-source", {"kernel_image_path": parts.kernel}) == NOT_AFTER
    drive = {"drive_id": "a", "is_root_device": False, "path_on_host": parts.overlay, "is_read_only": False}
    assert await line.fault("PUT", "/drives/a", drive) == "PCI is not enabled"
    assert await line.fault("PATCH", "/drives/a", {"drive_id": "a", "path_on_host": parts.overlay}) == (
        "Drive config error: Unable to patch the block device: Failed perform action on device: Device not found "
        "Please verify the request arguments."
    )
    create = {"snapshot_path": parts.state, "mem_file_path": parts.memory}
    assert await line.fault("PUT", "/snapshot/create", create) == (
        "Create snapshot error: Cannot save the microVM state: Operation not allowed: save/restore unavailable while "
        "running"
    )


async def test_a_second_root_drive(line: Line, parts: Files) -> None:
    root = {"is_root_device": True, "path_on_host": parts.root, "is_read_only": True}
    await line.does("PUT", "/drives/a", {"drive_id": "a", **root})
    await line.does("PUT", "/drives/a", {"drive_id": "a", **root})  # an update
    text = "Drive config error: A root block device already exists!"
    assert await line.fault("PUT", "/drives/b", {"drive_id": "b", **root}) == text


async def test_the_vsocks_path_must_be_free(line: Line, shared_tmp: Path) -> None:
    vsock = {"guest_cid": 3, "uds_path": str(shared_tmp / "v.sock")}
    await line.does("PUT", "/vsock", vsock)
    await line.does("PUT", "/vsock", vsock)  # its own is replaced
    reader, writer = await asyncio.open_unix_connection(vsock["uds_path"])
    assert await reader.read() == b""  # the guest listens on no port
    writer.close()
    taken = {"guest_cid": 3, "uds_path": str(line.vmm.socket)}
    assert await line.fault("PUT", "/vsock", taken) == (
        "Vsock config error: Cannot create backend for vsock device: Error binding to the host-side Unix socket: "
        "Address already in use (os error 98)"
    )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/machine-config", {"vcpu_count": 1, "mem_size_mib": 128, "cpu_template": "None"}),
        ("/snapshot/load", {"snapshot_path": "/none", "mem_file_path": "/none"}),
        ("/vsock", {"guest_cid": 3, "uds_path": "/none/none", "vsock_id": "a"}),
    ],
)
async def test_deprecated_fields_are_answered_with_a_header(line: Line, path: str, body: Any) -> None:
    raw = json.dumps(body).encode()
    head, _ = await line.raw(f"PUT {path} HTTP/1.1\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw)
    assert "Deprecation: true\r\n" in head


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (b"rubbish\r\n\r\n", "Invalid request."),
        (b"POST / HTTP/1.1\r\n\r\n", "Invalid HTTP Method: Unsupported HTTP method."),
        (b"GET / HTTP/2\r\n\r\n", "Invalid HTTP Version: Unsupported HTTP version."),
        (
            b"PUT /mmds HTTP/1.1\r\nContent-Length: 51201\r\n\r\n",
            "Request payload with size 51201 is larger than the limit of 51200 allowed by server.",
        ),
    ],
)
async def test_what_is_no_http(line: Line, request_: bytes, text: str) -> None:
    head, body = await line.raw(request_)
    assert head.startswith("HTTP/1.1 400 ")
    assert body.decode() == f'{{ "error": "{text}\nAll previous unanswered requests will be dropped." }}'
    with pytest.raises(ValueError, match="Invalid control character"):
        json.loads(body)


async def test_an_eleventh_connection(line: Line) -> None:
    others = [await asyncio.open_unix_connection(line.vmm.socket) for _ in range(9)]
    reader, writer = await asyncio.open_unix_connection(line.vmm.socket)
    said = await reader.read()
    assert said.startswith(b"HTTP/1.1 503\r\n")
    assert said.endswith(b'{ "error": "Too many open connections" }')
    others[0][1].close()
    await others[0][1].wait_closed()
    while (await line.ask("GET", "/version"))[0] == 200:  # until it has noticed
        reader, again = await asyncio.open_unix_connection(line.vmm.socket)
        again.write(b"GET /version HTTP/1.1\r\n\r\n")
        answered = await reader.readline()
        again.close()
        if answered == b"HTTP/1.1 200 \r\n":
            break
    for _, other in [*others, (reader, writer)]:
        other.close()


async def test_faults_on_demand(line: Line, parts: Files) -> None:
    rules = {
        "PUT /drives/*": {"do": "refuse", "message": "no", "skip": 1, "times": 1},
        "GET /version": {"do": "slow", "seconds": 0.0},
    }
    (line.vmm.place / "faults.json").write_text(json.dumps(rules))
    drive = {"drive_id": "a", "is_root_device": False, "path_on_host": parts.overlay, "is_read_only": False}
    await line.does("PUT", "/drives/a", drive)
    assert await line.fault("PUT", "/drives/a", drive) == "no"
    await line.does("PUT", "/drives/a", drive)
    assert (await line.ask("GET", "/version"))[0] == 200
    (line.vmm.place / "faults.json").write_text('{"guest": {"do": "refuse", "status": 500, "message": "boom"}}')
    await line.does("PUT", "/boot-source", {"kernel_image_path": parts.kernel})
    assert await line.ask("PUT", "/actions", {"action_type": "InstanceStart"}) == (500, {"fault_message": "boom"})
    assert (await line.ask("GET", "/"))[1]["state"] == "Not started"
