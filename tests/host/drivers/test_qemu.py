import os
from dataclasses import replace
from pathlib import Path

import pytest

from squib.contracts.guest import GuestConfig
from squib.contracts.machine import MachineSpec
from squib.host import HostConfig, probes
from squib.host.drivers import qemu_command, qemu_probe, qemu_start
from squib.host.drivers.qemu import QemuDriver
from squib.host.drivers.qemu_command import Accelerator, Kernel, Plan
from squib.host.ground import MIB
from tests.host.conftest import KEY

PLAN = Plan(
    name="/x/machines/mch-1/config",
    accelerator=Accelerator("tcg", 2_600_000),
    cpus=2,
    memory_size=512,
    memory=10,
    shared=True,
    root=11,
    drive=(12, 13),
    tap=14,
    control=15,
)
BOOT = replace(PLAN, kernel=Kernel(18, 16, ("squib.python=/usr/bin/python3",)))
RESTORE = replace(PLAN, shared=False, state=17)


def after(arguments: list[str], option: str) -> list[str]:
    return [arguments[at + 1] for at, argument in enumerate(arguments) if argument == option]


def test_a_machine_that_goes_on_is_the_one_that_booted_without_the_kernel() -> None:
    boot, restore = (set(qemu_command.arguments("qemu", plan)) for plan in (BOOT, RESTORE))
    assert {"-kernel", "-initrd", "-append"} <= boot - restore
    assert "-incoming" in restore - boot
    devices = [after(qemu_command.arguments("qemu", plan), "-device") for plan in (BOOT, RESTORE)]
    assert devices[0] == devices[1]


def test_a_machine_writes_its_own_memory_and_a_template_never() -> None:
    assert after(qemu_command.arguments("qemu", BOOT), "-object")[0].endswith(",share=on")
    assert after(qemu_command.arguments("qemu", RESTORE), "-object")[0].endswith(",share=off")


def test_of_the_drives_the_topmost_alone_is_written() -> None:
    nodes = after(qemu_command.arguments("qemu", RESTORE), "-blockdev")
    assert [("read-only=on" in node, "discard=unmap" in node) for node in nodes] == [
        (True, False),
        (True, False),
        (False, True),
    ]
    assert "backing=layer0" in nodes[2]


def test_no_file_of_the_hosts_is_named() -> None:
    named = [part for part in qemu_command.arguments("/usr/bin/qemu", BOOT)[1:] if "/" in part]
    assert [part for part in named if not any(p in part for p in ("/dev/fdset/", "/proc/self/fd/", PLAN.name))] == [
        "tsc_early_khz=2600000 tsc=reliable no_timer_check quiet random.trust_cpu=on panic=-1 reboot=t console=ttyS0"
        " squib.python=/usr/bin/python3",
    ]


def test_qemu_may_start_nothing_and_gain_nothing() -> None:
    (sandbox,) = after(qemu_command.arguments("qemu", BOOT), "-sandbox")
    assert sandbox == "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


def test_the_processor_is_named_with_its_clock() -> None:
    assert qemu_probe.processor(Accelerator("tcg", 2_600_044)) == "tcg max,la57=off 2600 MHz"
    real = qemu_probe.processor(Accelerator("kvm", 2_600_044))
    assert real.startswith("kvm host 2600 MHz ")
    assert real != qemu_probe.processor(Accelerator("kvm", 2_700_000))


def test_the_guest_listens_on_its_machines_network() -> None:
    config = GuestConfig("mch-1", "", "unix:/run/guest.sock", gateway="unix:/run/gateway.sock", gateway_port=8990)
    found = qemu_start.inside(config)
    assert (found.listen, found.gateway) == ("tcp:10.0.0.2:8991", "tcp:10.0.0.1:8990")
    assert qemu_start.inside(GuestConfig("mch-1", "", "unix:/run/guest.sock")).gateway is None


def test_the_groups_hold_the_machine_and_its_monitor() -> None:
    limits = qemu_start.bounds(MachineSpec("mch-1", memory=512, cpu=1.5))
    assert limits.cpu == 1.5
    assert limits.memory > (512 + qemu_command.CODE_CACHE) * MIB


@pytest.mark.needs("root")
async def test_what_is_missing_is_named_with_what_to_do(shared_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ground = await probes.ground(HostConfig(shared_tmp, KEY), probing=True)
    monkeypatch.setenv("PATH", str(shared_tmp))
    found = await QemuDriver(ground).probe()
    assert not found.works
    assert "not installed" in (found.why_not or "")
    assert "qemu-system-x86" in (found.advice or "")
    program = shared_tmp / qemu_command.PROGRAM
    program.write_text("#!/bin/sh\necho QEMU emulator version 7.2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shared_tmp}:{os.defpath}")
    found = await QemuDriver(ground).probe()
    assert "no kernel" in (found.why_not or "")
    assert "squib kernel build" in (found.advice or "")
    ground.children.close()
    ground.groups.close()
