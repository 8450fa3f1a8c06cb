"""Firecracker's API as one class: typed calls, in an order that is checked before anything is sent."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from squib.contracts.errors import InvalidRequest
from squib.host.firecracker import body as bodies
from squib.host.firecracker import calls, models, ready
from squib.host.firecracker.calls import Call
from squib.host.firecracker.errors import LoadFailed, VmmGarbled, VmmRefused
from squib.host.firecracker.models import Action, InstanceState, VmState
from squib.host.firecracker.order import Course
from squib.host.firecracker.wire import Answer, Wire

T = TypeVar("T")

#: A load that is refused for this reason leaves the process as it was.
_HARMLESS = "not allowed after configuring boot-specific resources"


class Firecracker:
    """One VMM, from its start to its end; close it, or use it as an async context manager.

    `socket` is the path on the host, `uid` who must own it. Errors: those of `firecracker.errors`, and InvalidRequest
    for a malformed id.
    """

    def __init__(self, socket: Path, *, uid: int | None = None):
        self._wire = Wire(socket, uid)
        self._course = Course()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the VMM goes on."""
        self._wire.close()

    async def attach(self) -> None:
        """Take over a VMM that another process of ours has made something of."""
        self._course = Course((await self.info()).state)

    @property
    def state(self) -> InstanceState:
        """Where the machine stands, by the calls that succeeded."""
        return self._course.state

    async def listening(self, pid: int, seconds: float = 10.0) -> None:
        """Wait until it takes connections; the socket's directory must be there. `pid` is the VMM's.

        Raises VmmEnded where it ends before, VmmSilent after `seconds`.
        """
        await ready.listening(self._wire, pid, seconds)

    # -- what there is

    async def info(self) -> models.InstanceInfo:
        """Who it is, and where its machine stands."""
        return await self._ask(calls.INFO, models.InstanceInfo)

    async def version(self) -> str:
        """Firecracker's version."""
        return (await self._ask(calls.VERSION, models.FirecrackerVersion)).firecracker_version

    async def config(self) -> models.FullVmConfiguration:
        """All that is configured."""
        return await self._ask(calls.CONFIG, models.FullVmConfiguration)

    async def machine(self) -> models.MachineConfiguration:
        """Processors and memory."""
        return await self._ask(calls.GET_MACHINE, models.MachineConfiguration)

    # -- before the start

    async def put_logger(self, body: models.Logger) -> None:
        """Open the log."""
        await self._do(calls.PUT_LOGGER, body)

    async def put_metrics(self, body: models.Metrics) -> None:
        """Open the metrics' file; possible once."""
        await self._do(calls.PUT_METRICS, body)

    async def put_serial(self, body: models.SerialDevice) -> None:
        """Say where the serial console goes, and how fast at most."""
        await self._do(calls.PUT_SERIAL, body)

    async def put_cpu(self, template: Mapping[str, Any]) -> None:
        """Mask processor features, by a template in Firecracker's own format."""
        await self._do(calls.PUT_CPU, dict(template))

    async def put_machine(self, body: models.MachineConfiguration) -> None:
        """Say how many processors and how much memory."""
        await self._do(calls.PUT_MACHINE, body)

    async def put_boot(self, body: models.BootSource) -> None:
        """Open the kernel."""
        await self._do(calls.PUT_BOOT, body)

    async def put_drive(self, body: models.Drive) -> None:
        """Open a drive, or another file for one that is there."""
        await self._do(calls.PUT_DRIVE, body)

    async def put_network(self, body: models.NetworkInterface) -> None:
        """Attach a tap."""
        await self._do(calls.PUT_NETWORK, body)

    async def put_vsock(self, body: models.Vsock) -> None:
        """Bind the vsock's socket."""
        await self._do(calls.PUT_VSOCK, body)

    async def put_entropy(self, body: models.EntropyDevice) -> None:
        """Give the guest a source of randomness."""
        await self._do(calls.PUT_ENTROPY, body)

    async def put_mmds_config(self, body: models.MmdsConfig) -> None:
        """Offer the metadata service on interfaces that are there."""
        await self._do(calls.PUT_MMDS_CONFIG, body)

    async def start(self) -> None:
        """Let the machine boot. After a refusal the process is still there, and its machine not started."""
        await self._do(calls.START, models.InstanceActionInfo(Action.INSTANCE_START))

    async def load(self, body: models.SnapshotLoadParams) -> None:
        """Go on from a snapshot. Raises LoadFailed: then the process ends, and another one has to be made."""
        try:
            await self._do(calls.LOAD, body)
        except VmmRefused as error:
            if _HARMLESS in error.fault or error.fault.startswith("An error occurred when deserializing"):
                raise
            self._course.spent = True
            raise LoadFailed(error.what, error.answered, error.fault) from error

    # -- metadata

    async def put_mmds(self, content: Mapping[str, Any]) -> None:
        """Replace the metadata; it is no part of a snapshot."""
        await self._do(calls.PUT_MMDS, dict(content))

    async def patch_mmds(self, content: Mapping[str, Any]) -> None:
        """Merge into the metadata (RFC 7396); possible once there are some."""
        await self._do(calls.PATCH_MMDS, dict(content))

    async def mmds(self) -> dict[str, Any]:
        """The metadata, {} where there are none."""
        return await self._ask(calls.GET_MMDS, dict[str, Any])

    # -- once it has started

    async def pause(self) -> None:
        """Stop the processors and the devices. Doing it again is fine."""
        await self._do(calls.PATCH_VM, models.Vm(VmState.PAUSED))

    async def resume(self) -> None:
        """Let them go on. Doing it again is fine."""
        await self._do(calls.PATCH_VM, models.Vm(VmState.RESUMED))

    async def patch_drive(self, body: models.PartialDrive) -> None:
        """Another file, or another limit, for a drive."""
        await self._do(calls.PATCH_DRIVE, body)

    async def patch_network(self, body: models.PartialNetworkInterface) -> None:
        """Other limits for a network device."""
        await self._do(calls.PATCH_NETWORK, body)

    async def act(self, action: Action) -> None:
        """Write the metrics now, or press control, alt and delete. Raises InvalidRequest for a start: see there."""
        if action is Action.INSTANCE_START:
            raise InvalidRequest("a machine is started by `start`", fields={"action": action.value})
        await self._do(calls.ACT, models.InstanceActionInfo(action))

    async def create_snapshot(self, body: models.SnapshotCreateParams) -> None:
        """Write a paused machine to disk, synced; its drives are not part of it."""
        await self._do(calls.CREATE_SNAPSHOT, body)

    # -- how

    async def _do(self, call: Call, body: Any) -> None:
        self._course.check(call, body)
        answer = await self._wire.exchange(call.method, call.target(body), bodies.dump(body), call.seconds)
        if answer.status != 204:
            raise _unexpected(call, answer)
        self._course.done(call, body)

    async def _ask(self, call: Call, kind: type[T]) -> T:
        self._course.check(call)
        answer = await self._wire.exchange(call.method, call.path, None, call.seconds)
        if answer.status != 200:
            raise _unexpected(call, answer)
        try:
            return bodies.load(kind, answer.body)
        except InvalidRequest as error:
            raise VmmGarbled(f"Firecracker's answer to {call} is wrong: {error.detail}") from error


def _unexpected(call: Call, answer: Answer) -> VmmRefused | VmmGarbled:
    if answer.status < 400:
        return VmmGarbled(f"Firecracker answered {call} with status {answer.status}")
    return VmmRefused(str(call), answer.status, _fault(answer.body))


def _fault(body: bytes) -> str:
    """The reason in a refusal. A request that is no HTTP gets one that is no JSON either."""
    text = body.decode("utf-8", "replace")
    try:
        document = json.loads(text)
    except ValueError:
        return text
    found = document.get("fault_message", document.get("error")) if isinstance(document, dict) else None
    return found if isinstance(found, str) else text
