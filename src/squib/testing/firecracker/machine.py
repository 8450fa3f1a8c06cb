"""The VMM's controller: where the machine stands, and what each request does to it."""

import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from squib.testing.firecracker import snapshot
from squib.testing.firecracker.configuration import Configuration, opened
from squib.testing.firecracker.fault import Fault
from squib.testing.firecracker.faults import Faults
from squib.testing.firecracker.guest import Guest

NOT_AFTER = "The requested operation is not supported after starting the microVM."
NOT_BEFORE = "The requested operation is not supported before starting the microVM."
NOT_STARTED, RUNNING, PAUSED = "Not started", "Running", "Paused"
_HOTPLUG = ("InsertBlockDevice", "InsertNetworkDevice")
_NO_METADATA = "MMDS error: The MMDS data store is not initialized."

Handler = Callable[[Any], Any]


class Machine:
    """One VMM's machine. `do` is the only way in; it raises Fault, and Fatal where the process is to end."""

    def __init__(self, instance: str, version: tuple[str, str], mmds_limit: int, faults: Faults, guest: Guest):
        self._instance, self._mmds_limit = instance, mmds_limit
        self._version, self._format = version  # Firecracker's, and its snapshots'
        self._faults, self._guest = faults, guest
        self._state = NOT_STARTED
        self._is = Configuration()
        self._mmds: Any = None
        self._metrics: Path | None = None
        self._any: dict[str, Handler] = {
            "GetVmInstanceInfo": self._info,
            "GetVmmVersion": lambda _: {"firecracker_version": self._version},
            "GetFullVmConfig": lambda _: self._is.document(),
            "GetVmMachineConfig": lambda _: self._is.machine,
            "GetMMDS": self._get_mmds,
            "PutMMDS": self._put_mmds,
            "PatchMMDS": self._patch_mmds,
        }
        self._before: dict[str, Handler] = {
            "ConfigureBootSource": self._is.put_boot,
            "ConfigureLogger": self._put_logger,
            "ConfigureMetrics": self._put_metrics,
            "ConfigureSerial": lambda _: None,
            "PutCpuConfiguration": lambda _: None,
            "InsertBlockDevice": self._is.put_drive,
            "InsertNetworkDevice": self._is.put_net,
            "UpdateMachineConfiguration": self._is.put_machine,
            "SetVsockDevice": self._is.put_vsock,
            "SetEntropyDevice": self._is.put_entropy,
            "SetMmdsConfiguration": self._is.put_mmds,
            "LoadSnapshot": self._load,
            "StartMicroVm": self._start,
        }
        self._after: dict[str, Handler] = {
            "Pause": self._pause,
            "Resume": self._resume,
            "CreateSnapshot": self._create,
            "UpdateBlockDevice": self._is.patch_drive,
            "UpdateNetworkInterface": self._is.patch_net,
            "FlushMetrics": self._flush,
            "SendCtrlAltDel": lambda _: self._guest.shut_down(),
        }

    async def do(self, action: str, value: Any) -> Any:
        """Do it; gives the document of the answer, None where there is none."""
        started = self._state != NOT_STARTED
        handler = self._any.get(action) or (self._after if started else self._before).get(action)
        if handler is None:
            if started and action in _HOTPLUG:
                raise Fault("PCI is not enabled")
            raise Fault(NOT_AFTER if started else NOT_BEFORE)
        done = handler(value)
        return await done if isinstance(done, Coroutine) else done

    def close(self) -> None:
        """The process ends."""
        self._guest.kill()
        self._is.close()

    # -- at any time

    def _info(self, _: Any) -> Any:
        info = {"id": self._instance, "state": self._state, "vmm_version": self._version}
        return {**info, "app_name": "Firecracker"}

    def _get_mmds(self, _: Any) -> Any:
        self._check_mmds()
        return {} if self._mmds is None else self._mmds

    def _put_mmds(self, value: Any) -> None:
        self._check_mmds()
        self._fits(value)
        self._mmds = value

    def _patch_mmds(self, value: Any) -> None:
        self._check_mmds()
        if self._mmds is None:
            raise Fault(_NO_METADATA)
        merged = _merge(self._mmds, value)
        self._fits(merged)
        self._mmds = merged

    def _check_mmds(self) -> None:
        if self._state != NOT_STARTED and self._is.mmds is None:
            raise Fault(_NO_METADATA)

    def _fits(self, value: Any) -> None:
        if len(json.dumps(value, separators=(",", ":")).encode()) > self._mmds_limit:
            raise Fault("MMDS limit exceeded error: The MMDS patch request doesn't fit.", 413)

    # -- before the start

    def _put_logger(self, value: Any) -> None:
        if value.get("log_path") is not None:
            opened(value["log_path"], "ab", "Logger error: Failed to open target file: ")

    def _put_metrics(self, value: Any) -> None:
        prefix = "Metrics error: Cannot initialize the metrics system due to bad user input: "
        opened(value["metrics_path"], "ab", prefix)
        if self._metrics is not None:
            raise Fault(f"{prefix}Reinitialization of metrics not allowed.")
        self._metrics = Path(value["metrics_path"])

    async def _start(self, _: Any) -> None:
        if self._is.boot is None:
            raise Fault("Start microvm error: Cannot start microvm without kernel configuration.")
        await self._faults.before("guest")
        await self._guest.boot(self._is.boot["boot_args"] or "", self._is.boot["initrd_path"], self._is.drives)
        self._state = RUNNING

    async def _load(self, value: Any) -> None:
        if self._is.touched:
            text = "Loading a microVM snapshot not allowed after configuring boot-specific resources."
            raise Fault(f"Load snapshot error: {text}")
        state = snapshot.load(value, self._format)
        self._is.restore(state, track_dirty_pages=value.get("track_dirty_pages", False))
        self._guest.remember(Path(value["mem_backend"]["backend_path"]))
        self._state = PAUSED
        if value.get("resume_vm"):
            await self._resume(None)

    # -- once it has started

    async def _pause(self, _: Any) -> None:
        if self._state == RUNNING:
            await self._guest.pause(self._is.drives)
        self._state = PAUSED

    async def _resume(self, _: Any) -> None:
        if self._state == PAUSED:
            await self._faults.before("guest")
            await self._guest.resume(self._is.drives)
        self._state = RUNNING

    async def _create(self, value: Any) -> None:
        if self._state != PAUSED:
            raise Fault(
                "Create snapshot error: Cannot save the microVM state: Operation not allowed: save/restore "
                "unavailable while running"
            )
        snapshot.create(value, self._format, self._is.state(), self._is.memory)
        await self._guest.save(Path(value["mem_file_path"]))

    def _flush(self, _: Any) -> None:
        if self._metrics is not None:
            with self._metrics.open("a") as file:
                file.write('{"utc_timestamp_ms":0}\n')


def _merge(old: Any, new: Any) -> Any:
    """RFC 7396."""
    if not isinstance(new, dict):
        return new
    merged = dict(old) if isinstance(old, dict) else {}
    for name, held in new.items():
        if held is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), held)
    return merged
