from pathlib import Path

import pytest

from squib.contracts import ids
from squib.contracts.guest import GuestConfig
from squib.contracts.machine import MachineSpec, Mount
from squib.host.drivers import sandbox
from squib.host.layout import MachineDir, StateDir

FILES = sandbox.Files(passwd=11, group=12, hosts=13, seccomp=14, info=15)


def build(image: str = "host", mounts: tuple[Mount, ...] = (), extra: tuple[str, ...] = ()) -> list[str]:
    spec = MachineSpec(ids.new_id("mch"), image=image, memory=1024, mounts=mounts)
    config = GuestConfig(spec.id, "", "unix:/run/squib/guest/guest.sock")
    return sandbox.arguments(
        "/usr/bin/bwrap", spec, MachineDir(Path("/state/machines") / spec.id), config, FILES, extra
    )


def binds(argv: list[str], option: str) -> list[tuple[str, str]]:
    return [(argv[i + 1], argv[i + 2]) for i, part in enumerate(argv) if part == option]


def test_the_host_shows_only_what_programs_need() -> None:
    argv = build()
    seen = {source for option in ("--bind", "--ro-bind", "--dev-bind") for source, _ in binds(argv, option)}
    assert "/usr" in seen
    for hidden in (
        "/",
        "/etc",
        "/root",
        "/home",
        "/var",
        "/run",
        "/proc",
        "/dev",
        "/sys",
        "/opt",
        "/tmp",
        "/etc/shadow",
    ):
        assert hidden not in seen


def test_only_the_guests_own_directories_are_writable() -> None:
    argv = build()
    assert {target for _, target in binds(argv, "--bind")} == {"/run/squib/guest", "/run/squib/state", "/workspace"}
    assert all(Path(source).parent.name.startswith("mch-") for source, _ in binds(argv, "--bind"))


def test_every_namespace_is_new_and_every_right_dropped() -> None:
    argv = build()
    for option in ("user", "pid", "ipc", "uts", "net", "cgroup"):
        assert f"--unshare-{option}" in argv
    for option in ("--disable-userns", "--new-session", "--clearenv", "--as-pid-1"):
        assert option in argv
    assert argv[argv.index("--cap-drop") + 1] == "ALL"
    assert "--die-with-parent" not in argv, "machines outlive the process that made them"
    assert "--share-net" not in argv


def test_memory_file_systems_are_bounded() -> None:
    argv = build()
    for position, part in enumerate(argv):
        if part == "--tmpfs":
            assert argv[position - 2] == "--size"
            assert int(argv[position - 1]) == 512 * 1024 * 1024


def test_the_root_is_closed_after_everything_hangs_in_it() -> None:
    argv = build(mounts=(Mount("/srv/data", "/data"),), extra=("--ro-bind", "/x", "/opt/squib/guest.pyz"))
    assert ("/srv/data", "/data") in binds(argv, "--ro-bind")
    last_bind = max(i for i, part in enumerate(argv) if part in ("--bind", "--ro-bind", "--tmpfs"))
    assert argv.index("--remount-ro") > last_bind


def test_a_root_file_system_takes_the_hosts_place(tmp_path: Path) -> None:
    for name in ("usr", "etc", "opt/tool", "opt/squib", "proc", "root", "home", "srv"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    argv = build(image=str(tmp_path))
    seen = binds(argv, "--ro-bind")
    assert (str(tmp_path / "usr"), "/usr") in seen
    assert (str(tmp_path / "etc"), "/etc") in seen
    assert (str(tmp_path / "opt" / "tool"), "/opt/tool") in seen
    assert ("usr/bin", "/bin") in binds(argv, "--symlink")
    assert not [
        source for source, _ in seen if source in ("/usr", str(tmp_path / "root"), str(tmp_path / "opt/squib"))
    ]


@pytest.mark.parametrize("bad", ["mch-../../etc", "mch-x", "", "machines", "sbx-" + "0" * 26])
def test_what_is_no_machines_id_never_becomes_a_path(bad: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a machine's id"):
        StateDir(tmp_path).machine(bad)
