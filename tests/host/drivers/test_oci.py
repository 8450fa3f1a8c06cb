import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squib.contracts import ids
from squib.contracts.guest import GuestConfig
from squib.contracts.machine import MachineSpec
from squib.host.drivers import oci, view

MIB = 1024 * 1024


def document(*entries: view.Link | view.Bind, **more: Any) -> dict[str, Any]:
    spec = MachineSpec(ids.new_id("mch"), memory=1024, disk=64, pids=100)
    return oci.document(
        spec, GuestConfig(spec.id, "", "unix:/run/squib/guest/guest.sock"), ["/x", "y"], entries, **more
    )


def test_the_program_starts_with_what_it_is_given_and_no_more() -> None:
    process = document()["process"]
    assert process["args"] == ["/x", "y"]
    assert process["noNewPrivileges"]
    assert not any(process["capabilities"].values())
    assert document(capabilities=["CAP_CHOWN"])["process"]["capabilities"]["permitted"] == ["CAP_CHOWN"]
    assert document(capabilities=["CAP_CHOWN"])["process"]["capabilities"]["ambient"] == []


def test_the_specification_becomes_limits() -> None:
    limits = {limit["type"]: limit["hard"] for limit in document()["process"]["rlimits"]}
    assert limits["RLIMIT_FSIZE"] == 64 * MIB
    assert limits["RLIMIT_NPROC"] == 100
    assert limits["RLIMIT_CORE"] == 0


def test_memory_file_systems_are_bounded() -> None:
    memory = {m["destination"]: m["options"] for m in document()["mounts"] if m["type"] == "tmpfs"}
    for path in ("/tmp", "/home/agent", "/dev/shm"):
        assert f"size={512 * MIB}" in memory[path]
    assert all(any(option.startswith("size=") for option in options) for options in memory.values())


def test_only_what_may_be_written_is_bound_writable() -> None:
    entries = (view.Bind("/a", "/usr"), view.Bind("/b", "/workspace", writable=True), view.Link("/bin", "usr/bin"))
    bound = {m["destination"]: m for m in document(*entries)["mounts"] if m["type"] == "bind"}
    assert set(bound) == {"/usr", "/workspace"}
    assert "ro" in bound["/usr"]["options"]
    assert "rw" in bound["/workspace"]["options"]
    assert all({"nosuid", "nodev"} <= set(mount["options"]) for mount in bound.values())


def test_the_root_is_read_only_and_the_network_empty() -> None:
    made = document()
    assert made["root"] == {"path": "root", "readonly": True}
    assert {"type": "network"} in made["linux"]["namespaces"]


def test_the_view_of_the_host_has_programs_and_nothing_of_users() -> None:
    seen = {entry.path for entry in view.of_root("host")}
    assert "/usr" in seen
    assert not {"/etc/shadow", "/etc/passwd", "/root", "/home", "/var", "/etc", "/"} & seen


@pytest.fixture
def _closed() -> Iterator[None]:
    """Files are this process's alone unless it says otherwise."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_closed")
def test_others_can_read_the_skeleton_whatever_the_umask(tmp_path: Path) -> None:
    root = tmp_path / "root"
    view.build(root, [view.Bind("/etc/hosts", "/etc/x/hosts"), view.Link("/bin", "usr/bin")], ("/a/b",), {"/c": b""})
    modes = {str(path.relative_to(root)): path.lstat().st_mode & 0o777 for path in root.rglob("*")}
    assert {modes[name] for name in ("a", "a/b", "etc", "etc/x")} == {0o755}
    assert modes["c"] == modes["etc/x/hosts"] == 0o644


def test_the_skeleton_has_a_place_for_everything(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    entries = [view.Bind(str(tmp_path), "/a/b"), view.Bind(str(file), "/etc/c"), view.Link("/bin", "usr/bin")]
    root = tmp_path / "root"
    view.build(root, entries, ("/proc", "/run/squib"), {"/etc/passwd": b"agent"})
    assert (root / "a" / "b").is_dir()
    assert (root / "etc" / "c").is_file()
    assert (root / "bin").readlink() == Path("usr/bin")
    assert (root / "etc" / "passwd").read_bytes() == b"agent"
    assert (root / "run" / "squib").is_dir()
