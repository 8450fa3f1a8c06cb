"""The client against the stand-in, and against what is none."""

import asyncio
import os
from pathlib import Path

import pytest

from squib.contracts.errors import InfrastructureError, InvalidRequest
from squib.host.firecracker import models
from squib.host.firecracker.client import Firecracker
from squib.host.firecracker.errors import (
    LoadFailed,
    OutOfOrder,
    VmmBusy,
    VmmEnded,
    VmmGarbled,
    VmmRefused,
    VmmSilent,
)
from squib.host.firecracker.models import Action, InstanceState
from squib.host.firecracker.wire import Wire
from tests.testing.vmm import Files, Recorded, running


async def boot(client: Firecracker, parts: Files) -> None:
    await client.put_machine(models.MachineConfiguration(vcpu_count=2, mem_size_mib=256))
    await client.put_boot(models.BootSource(parts.kernel, boot_args="reboot=k panic=1"))
    await client.put_drive(models.Drive("root", True, parts.root, is_read_only=True))
    limiter = models.RateLimiter(ops=models.TokenBucket(1000, 100))
    await client.put_drive(models.Drive("overlay", False, parts.overlay, False, rate_limiter=limiter))
    await client.start()


def load(parts: Files, **fields: bool) -> models.SnapshotLoadParams:
    return models.SnapshotLoadParams(parts.state, models.MemoryBackend(parts.memory), **fields)


async def snapshot(client: Firecracker, parts: Files) -> None:
    await boot(client, parts)
    await client.pause()
    await client.create_snapshot(models.SnapshotCreateParams(parts.state, parts.memory))


async def test_a_machine_boots_pauses_and_goes_on(client: Firecracker, parts: Files) -> None:
    assert (await client.info()).state is InstanceState.NOT_STARTED
    assert (await client.machine()).mem_size_mib == 128
    await boot(client, parts)
    assert client.state is (await client.info()).state is InstanceState.RUNNING
    config = await client.config()
    assert [drive.drive_id for drive in config.drives] == ["root", "overlay"]
    assert config.drives[1].rate_limiter == models.RateLimiter(ops=models.TokenBucket(1000, 100))
    assert config.machine_config is not None
    assert config.machine_config.vcpu_count == 2
    await client.pause()
    await client.pause()
    assert client.state is (await client.info()).state is InstanceState.PAUSED
    await client.resume()
    assert client.state is (await client.info()).state is InstanceState.RUNNING


async def test_another_vmm_goes_on_from_a_snapshot(client: Firecracker, parts: Files, shared_tmp: Path) -> None:
    await snapshot(client, parts)
    assert Path(parts.memory).stat().st_size == 256 * 1024 * 1024
    async with running(shared_tmp / "clone") as other, Firecracker(other.socket) as clone:
        await clone.load(load(parts))
        assert clone.state is (await clone.info()).state is InstanceState.PAUSED
        own = shared_tmp / "own.ext4"
        own.write_bytes(b"")
        await clone.patch_drive(models.PartialDrive("overlay", path_on_host=str(own)))
        await clone.resume()
        config = await clone.config()
    assert [drive.path_on_host for drive in config.drives] == [parts.root, str(own)]
    assert config.machine_config is not None
    assert config.machine_config.mem_size_mib == 256


async def test_metadata(client: Firecracker) -> None:
    assert await client.mmds() == {}
    await client.put_mmds({"squib": {"id": "mch-1", "gone": True}})
    await client.patch_mmds({"squib": {"gone": None, "token": None, "name": "a"}})
    assert await client.mmds() == {"squib": {"id": "mch-1", "name": "a"}}


async def test_a_refusal_says_what_was_refused_and_why(client: Firecracker, parts: Files) -> None:
    with pytest.raises(VmmRefused) as caught:
        await client.put_drive(models.Drive("root", True, f"{parts.root}.missing", is_read_only=True))
    error = caught.value
    assert isinstance(error, InfrastructureError)
    assert error.answered == 400
    assert error.what == "PUT /drives/{drive_id}"
    assert "No such file or directory (os error 2)" in error.fault
    await boot(client, parts)  # the process is as it was


async def test_metadata_that_are_too_long_are_refused_with_a_status_of_their_own(client: Firecracker) -> None:
    await client.put_mmds({"a": "x" * 30_000})
    with pytest.raises(VmmRefused, match="doesn't fit") as caught:
        await client.patch_mmds({"b": "x" * 30_000})
    assert caught.value.answered == 413


async def test_what_is_no_http_for_the_vmm_is_told_too(client: Firecracker) -> None:
    with pytest.raises(VmmRefused, match="larger than the limit of 51200 allowed by server"):
        await client.put_mmds({"a": "x" * 60_000})
    assert await client.mmds() == {}  # over a connection of its own


async def test_a_bad_id_is_not_sent(client: Firecracker, vmm: Recorded, parts: Files) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await client.put_drive(models.Drive("../mmds", False, parts.overlay, is_read_only=False))
    assert caught.value.fields == {"drive_id": "malformed"}
    assert vmm.said == []


async def test_a_failed_load_ends_the_vmm(client: Firecracker, parts: Files, shared_tmp: Path) -> None:
    await snapshot(client, parts)
    damaged = bytearray(Path(parts.state).read_bytes())
    damaged[40] ^= 1
    Path(parts.state).write_bytes(damaged)
    async with running(shared_tmp / "clone") as other, Firecracker(other.socket) as clone:
        with pytest.raises(LoadFailed, match="CRC64 validation failed"):
            await clone.load(load(parts))
        assert await other.ended == 1
        with pytest.raises(OutOfOrder, match="failed to load"):
            await clone.resume()


async def test_a_load_that_is_refused_for_its_order_alone_is_harmless(parts: Files, vmm: Recorded) -> None:
    """Another process of ours has configured it: the client can't know."""
    async with Firecracker(vmm.socket) as before:
        await before.put_machine(models.MachineConfiguration(1, 128))
    async with Firecracker(vmm.socket) as client:
        with pytest.raises(VmmRefused, match="not allowed after configuring") as caught:
            await client.load(load(parts))
        assert not isinstance(caught.value, LoadFailed)
        assert (await client.info()).state is InstanceState.NOT_STARTED


async def test_a_machine_of_an_earlier_process_is_taken_up(client: Firecracker, vmm: Recorded, parts: Files) -> None:
    await boot(client, parts)
    async with Firecracker(vmm.socket) as later:
        await later.attach()
        await later.pause()
        with pytest.raises(OutOfOrder):
            await later.start()


async def test_the_eleventh_connection_is_told_that_there_are_ten(vmm: Recorded) -> None:
    wires = [Wire(vmm.socket) for _ in range(11)]
    try:
        for wire in wires[:10]:
            assert (await wire.exchange("GET", "/", None, 5)).status == 200
        with pytest.raises(VmmBusy):
            await wires[10].exchange("GET", "/", None, 5)
    finally:
        for wire in wires:
            wire.close()


async def test_requests_of_many_tasks_wait_for_one_another(client: Firecracker, vmm: Recorded) -> None:
    answers = await asyncio.gather(*(client.version() for _ in range(20)))
    assert answers == ["1.17.0-dev"] * 20
    assert len(vmm.said) == 20


async def test_a_start_by_another_name_is_refused(client: Firecracker, vmm: Recorded) -> None:
    with pytest.raises(InvalidRequest):
        await client.act(Action.INSTANCE_START)
    assert vmm.said == []


async def test_a_guest_that_shuts_down_ends_the_vmm(client: Firecracker, vmm: Recorded, parts: Files) -> None:
    await boot(client, parts)
    await client.act(Action.SEND_CTRL_ALT_DEL)
    assert await vmm.ended == 0


async def test_nothing_listens(shared_tmp: Path) -> None:
    with pytest.raises(VmmEnded, match="does not listen"):
        await Firecracker(shared_tmp / "none").info()


async def test_what_lies_in_the_sockets_place_is_not_followed(vmm: Recorded, shared_tmp: Path) -> None:
    (shared_tmp / "link").symlink_to(vmm.socket)
    (shared_tmp / "file").write_text("")
    for name in ("link", "file"):
        with pytest.raises(VmmGarbled, match="no socket of this VMM's"):
            await Firecracker(shared_tmp / name).info()
    assert vmm.said == []


async def test_a_socket_of_another_user_is_not_used(vmm: Recorded) -> None:
    async with Firecracker(vmm.socket, uid=os.geteuid()) as own:
        assert (await own.info()).id == "mch-1"
    with pytest.raises(VmmGarbled):
        await Firecracker(vmm.socket, uid=os.geteuid() + 1).info()
    assert len(vmm.said) == 1


async def against(place: Path, *answers: bytes) -> Exception:
    """Ask what answers with these bytes and closes; gives the error."""
    left = list(answers)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(left.pop(0))
        writer.close()

    async with await asyncio.start_unix_server(talk, place / "fake"), Firecracker(place / "fake") as client:
        with pytest.raises(InfrastructureError) as caught:
            await client.info()
    return caught.value


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", VmmEnded),
        (b"HTTP/1.1 200 \r\nContent-Length: 10\r\n\r\n{", VmmEnded),
        (b"rubbish\r\n\r\n", VmmGarbled),
        (b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n[]", VmmGarbled),
        (b"HTTP/1.1 200 \r\nContent-Length: 8\r\n\r\nno json!", VmmGarbled),
        (b'HTTP/1.1 200 \r\nContent-Length: 10\r\n\r\n{"id": 42}', VmmGarbled),
        (b"HTTP/1.1 204 \r\n\r\n", VmmGarbled),
        (b"HTTP/1.1 200 \r\nContent-Length: 2000000\r\n\r\n" + b" " * 2_000_000, VmmGarbled),
        (b'HTTP/1.1 400 \r\nContent-Length: 21\r\n\r\n{"fault_message": 12}', VmmRefused),
    ],
)
async def test_answers_that_are_none(shared_tmp: Path, answer: bytes, kind: type[Exception]) -> None:
    assert type(await against(shared_tmp, answer)) is kind


async def test_a_vmm_that_does_not_answer_is_given_up(vmm: Recorded) -> None:
    (vmm.place / "faults.json").write_text('{"GET /version": {"do": "hang"}}')
    wire = Wire(vmm.socket)
    with pytest.raises(VmmSilent, match="GET /version"):
        await wire.exchange("GET", "/version", None, 0.05)
    with pytest.raises(VmmSilent):  # nor does it answer anything else
        await wire.exchange("GET", "/", None, 0.05)


async def test_fields_of_a_later_version_are_passed_over(shared_tmp: Path) -> None:
    body = b'{"id":"a","state":"Running","vmm_version":"2","app_name":"Firecracker","mood":"good"}'

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 \r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    async with await asyncio.start_unix_server(talk, shared_tmp / "fake"):
        info = await Firecracker(shared_tmp / "fake").info()
    assert info == models.InstanceInfo("Firecracker", "a", InstanceState.RUNNING, "2")
