"""Our table of what is possible when, held against what the stand-in refuses."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from squib.host.firecracker import body as bodies
from squib.host.firecracker import calls, models
from squib.host.firecracker.calls import Call
from squib.host.firecracker.errors import OutOfOrder
from squib.host.firecracker.models import Action, InstanceState, SnapshotType, VmState
from squib.host.firecracker.order import Course
from squib.host.firecracker.wire import Wire
from tests.testing.vmm import Files, files, running

EVERY = [value for value in vars(calls).values() if isinstance(value, Call)]
NOT_NOW = (
    "not supported after starting the microVM",
    "not supported before starting the microVM",
    "PCI is not enabled",
    "unavailable while running",
    "not allowed after configuring boot-specific resources",
    "without kernel configuration",
    "does not correspond to any existing network interface",
)


def body(call: Call, parts: Files) -> Any:
    """Something that the call would take."""
    if call is calls.ACT:
        return models.InstanceActionInfo(Action.FLUSH_METRICS)
    if call is calls.PUT_CPU:
        return {"cpuid_modifiers": []}
    values: dict[type, Any] = {
        models.Logger: models.Logger(f"{parts.kernel}.log"),
        models.Metrics: models.Metrics(f"{parts.kernel}.metrics"),
        models.SerialDevice: models.SerialDevice(rate_limiter=models.TokenBucket(4096, 100)),
        models.MachineConfiguration: models.MachineConfiguration(1, 128),
        models.BootSource: models.BootSource(parts.kernel),
        models.Drive: models.Drive("overlay", False, parts.overlay, is_read_only=False),
        models.PartialDrive: models.PartialDrive("overlay", path_on_host=parts.overlay),
        models.NetworkInterface: models.NetworkInterface("net", "a-name-of-16-bytes-or-more"),
        models.PartialNetworkInterface: models.PartialNetworkInterface("net"),
        models.Vsock: models.Vsock(3, f"{parts.kernel}.vsock"),
        models.EntropyDevice: models.EntropyDevice(),
        models.MmdsConfig: models.MmdsConfig(("net",)),
        models.InstanceActionInfo: models.InstanceActionInfo(Action.INSTANCE_START),
        models.Vm: models.Vm(VmState.PAUSED),
        models.SnapshotCreateParams: models.SnapshotCreateParams(parts.state, parts.memory, SnapshotType.FULL),
        models.SnapshotLoadParams: models.SnapshotLoadParams(parts.state, models.MemoryBackend(parts.memory)),
        dict: {"a": {}},
    }
    return None if call.body is None else values[call.body]


@dataclass
class Both:
    """A VMM, and what we think of it."""

    wire: Wire
    course: Course
    parts: Files

    async def do(self, call: Call, value: Any) -> str:
        """Send it without looking; gives the refusal."""
        raw = None if value is None else bodies.dump(value)
        answer = await self.wire.exchange(call.method, call.target(value), raw, 5)
        if answer.status < 300:
            self.course.done(call, value)
        return "" if answer.status < 300 else answer.body.decode()


@pytest.fixture
async def both(shared_tmp: Path) -> AsyncIterator[Both]:
    async with running(shared_tmp / "vmm") as vmm:
        wire = Wire(vmm.socket)
        yield Both(wire, Course(), files(shared_tmp))
        wire.close()


BEFORE: list[Call] = []
CONFIGURED = [calls.PUT_MACHINE]
BOOTABLE = [calls.PUT_BOOT, calls.PUT_DRIVE]
STARTED = [*BOOTABLE, calls.START]
PAUSED = [*STARTED, calls.PATCH_VM]


@pytest.mark.parametrize("path", [BEFORE, CONFIGURED, BOOTABLE, STARTED, PAUSED], ids=lambda path: f"{len(path)}")
@pytest.mark.parametrize("call", EVERY, ids=str)
async def test_what_the_vmm_would_refuse_for_its_order_is_found_before(
    both: Both, path: list[Call], call: Call
) -> None:
    for step in path:
        assert await both.do(step, body(step, both.parts)) == ""
    value = body(call, both.parts)
    try:
        both.course.check(call, value)
        fits = True
    except OutOfOrder:
        fits = False
    refusal = await both.do(call, value)
    assert fits is not any(text in refusal for text in NOT_NOW), refusal


async def test_a_paused_machine_that_goes_on_takes_no_snapshot(both: Both) -> None:
    for step in PAUSED:
        await both.do(step, body(step, both.parts))
    both.course.check(calls.CREATE_SNAPSHOT, body(calls.CREATE_SNAPSHOT, both.parts))
    assert await both.do(calls.PATCH_VM, models.Vm(VmState.RESUMED)) == ""
    with pytest.raises(OutOfOrder, match="while the machine is paused: it is running"):
        both.course.check(calls.CREATE_SNAPSHOT, body(calls.CREATE_SNAPSHOT, both.parts))


def test_logs_and_metrics_may_come_before_a_load() -> None:
    course = Course()
    for call in (calls.PUT_LOGGER, calls.PUT_METRICS):
        course.done(call)
    load = models.SnapshotLoadParams("state", models.MemoryBackend("memory"), resume_vm=True)
    course.check(calls.LOAD, load)
    course.done(calls.LOAD, load)
    assert course.state is InstanceState.RUNNING


def test_metadata_need_their_interface_first() -> None:
    course = Course()
    config = models.MmdsConfig(("net",))
    with pytest.raises(OutOfOrder, match="its interface has to be there"):
        course.check(calls.PUT_MMDS_CONFIG, config)
    course.done(calls.PUT_NETWORK, models.NetworkInterface("net", "tap0"))
    course.check(calls.PUT_MMDS_CONFIG, config)
