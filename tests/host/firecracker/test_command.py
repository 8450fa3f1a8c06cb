from pathlib import Path
from typing import Any

import pytest

from squib.contracts.errors import InvalidRequest
from squib.host.firecracker.command import Jail, Jailer, Vmm
from squib.host.firecracker.exits import meaning
from squib.testing.firecracker import arguments, jailer, vmm

JAIL = Jail(Path("/srv/jails"), Path("/opt/firecracker/v1/firecracker"), "mch-01")
JAILER = Path("/opt/firecracker/v1/jailer")


def full() -> Jailer:
    return Jailer(
        JAIL,
        uid=100_001,
        gid=100_001,
        netns="/proc/7/fd/9",
        parent_cgroup="squib/mch-01",
        cgroups=(("memory.max", "1073741824"), ("pids.max", "64")),
        fsize=1024,
        no_file=512,
        new_pid_ns=True,
        daemonize=True,
        vmm=Vmm(log_path="/log", level="Info", metrics_path="/metrics", mmds_size_limit=1000, boot_timer=True),
    )


def test_a_jailers_command_line() -> None:
    assert full().argv(JAILER) == [
        *("/opt/firecracker/v1/jailer", "--id", "mch-01", "--exec-file", "/opt/firecracker/v1/firecracker"),
        *("--uid", "100001", "--gid", "100001", "--chroot-base-dir", "/srv/jails", "--cgroup-version", "2"),
        *("--parent-cgroup", "squib/mch-01", "--cgroup", "memory.max=1073741824", "--cgroup", "pids.max=64"),
        *("--netns", "/proc/7/fd/9", "--resource-limit", "fsize=1024", "--resource-limit", "no-file=512"),
        *("--new-pid-ns", "--daemonize", "--", "--api-sock", "/run/firecracker.socket"),
        *("--log-path", "/log", "--level", "Info", "--metrics-path", "/metrics", "--mmds-size-limit", "1000"),
        "--boot-timer",
    ]


def test_both_parsers_take_what_we_say() -> None:
    """As the stand-in reads command lines, which is as the real ones do: nothing twice, nothing unknown."""
    given = arguments.parse(full().argv(JAILER)[1:], jailer.OPTIONS)
    assert given.given["cgroup"] == ["memory.max=1073741824", "pids.max=64"]
    inner = arguments.parse(["--id", "mch-01", "--start-time-us", "1", *given.rest], vmm.OPTIONS)
    assert inner.one("api-sock") == "/run/firecracker.socket"
    assert inner.flag("boot-timer")


def test_a_vmm_without_a_jail() -> None:
    argv = Vmm(api_sock="/tmp/s").argv(Path("/bin/firecracker"), "mch-01")
    assert argv == ["/bin/firecracker", "--id", "mch-01", "--api-sock", "/tmp/s"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("uid", 0),
        ("gid", 0),
        ("uid", -1),
        ("uid", 2**32 - 1),
        ("cgroup_version", 3),
        ("parent_cgroup", "/abs"),
        ("parent_cgroup", "a/../b"),
        ("parent_cgroup", "."),
        ("cgroups", (("memory.max", ""),)),
        ("cgroups", (("memory.max", "1=2"),)),
        ("cgroups", (("../memory.max", "1"),)),
        ("cgroups", (("memory", "1"),)),
    ],
)
def test_what_a_jailer_would_refuse_or_should(field: str, value: Any) -> None:
    fields: dict[str, Any] = {"uid": 1, "gid": 1, field: value}
    with pytest.raises(InvalidRequest) as caught:
        Jailer(JAIL, **fields).argv(JAILER)
    assert list(caught.value.fields) == [field]


@pytest.mark.parametrize("name", ["", "a_b", "a/b", "x" * 65, "ä"])
def test_ids_that_a_jail_can_not_have(name: str) -> None:
    with pytest.raises(InvalidRequest):
        Jailer(Jail(JAIL.base, JAIL.program, name), 1, 1).argv(JAILER)
    with pytest.raises(InvalidRequest):
        Vmm().argv(JAILER, name)


def test_where_a_jails_parts_lie() -> None:
    assert JAIL.directory == Path("/srv/jails/firecracker/mch-01")
    assert JAIL.pid_file == Path("/srv/jails/firecracker/mch-01/root/firecracker.pid")
    assert JAIL.outside("/run/firecracker.socket") == JAIL.root / "run/firecracker.socket"


@pytest.mark.parametrize("inside", ["run", "/../etc/passwd", "/run/../../x", ""])
def test_paths_that_lead_out_of_a_jail(inside: str) -> None:
    with pytest.raises(InvalidRequest):
        JAIL.outside(inside)


def test_an_exit_in_words() -> None:
    assert meaning(0) == "its guest shut down or rebooted"
    assert meaning(148).startswith("it was ended for a system call")
    assert meaning(-9) == "it was ended by SIGKILL"
    assert meaning(77) == "it ended with status 77"
    assert meaning(-200) == "it was ended by signal 200"
