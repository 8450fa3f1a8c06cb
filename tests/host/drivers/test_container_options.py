from pathlib import Path

import pytest

from squib.contracts import ids
from squib.contracts.errors import InfrastructureError
from squib.contracts.guest import GuestConfig
from squib.contracts.machine import MachineSpec
from squib.host.drivers import container_options, view
from squib.host.drivers.container_engine import Engine
from squib.host.drivers.container_options import Container
from squib.host.ground import limits_of

PODMAN = Engine("podman", "/usr/bin/podman", ("--root", "/state/podman"), "runc", grouped=True)
DOCKER = Engine("docker", "/usr/bin/docker")


def build(
    engine: Engine, uid: int | None, own: int, group: str | None = None, source: str = "/state/workspace"
) -> str:
    spec = MachineSpec(ids.new_id("mch"), memory=1024, cpu=1.5, pids=100)
    config = GuestConfig(spec.id, "", "unix:/run/squib/guest/guest.sock")
    root: Path | str = Path("/state/containers/x/root") if engine.is_podman else "localhost/squib-root:x"
    binds = [view.Bind(source, "/workspace", writable=True), view.Bind("/usr", "/usr")]
    made = Container(
        spec, config, "squib-1", uid, Path("/m/seccomp.json"), Path("/m/pid"), group, root, binds, limits_of(spec)
    )
    argv = container_options.arguments(engine, made, own, ["/usr/bin/python3", "guest.pyz"])
    assert argv[-3:] == [str(root), "/usr/bin/python3", "guest.pyz"]
    return " ".join(argv)


@pytest.mark.parametrize("engine", [PODMAN, DOCKER])
def test_every_container_is_confined(engine: Engine) -> None:
    said = build(engine, 200_001, 0)
    for words in (
        "--network none",
        "--ipc none",
        "--cgroupns private",
        "--read-only ",
        "--cap-drop ALL",
        "no-new-privileges",
        "seccomp=/m/seccomp.json",
        "--ulimit core=0:0",
        "target=/usr,readonly",
        "target=/workspace ",
        "/sys:ro,mode=0000",
    ):
        assert words in said
    assert "privileged" not in said.replace("no-new-privileges", "")


@pytest.mark.parametrize("engine", [PODMAN, DOCKER])
def test_memory_file_systems_are_bounded(engine: Engine) -> None:
    words = build(engine, 200_001, 0).split()
    mounts = [words[at + 1] for at, word in enumerate(words) if word == "--tmpfs"]
    assert {mount.partition(":")[0] for mount in mounts} >= {"/tmp", "/dev/shm", "/home/agent"}
    assert all("size=512m" in mount or "size=4k" in mount for mount in mounts)


def test_podmans_containers_have_user_ids_of_their_own() -> None:
    assert "--user 1000:1000" in build(PODMAN, 200_001, 0)
    assert "--uidmap 0:65534:1 --uidmap 1000:200001:1" in build(PODMAN, 200_001, 0)
    ordinary = build(PODMAN, None, 54_321)
    assert "--uidmap 0:1:1 --uidmap 1000:0:1" in ordinary, "as the user's own Podman counts"


def test_dockers_containers_run_under_the_machines_user() -> None:
    assert "--user 200001:200001" in build(DOCKER, 200_001, 0)
    assert "uid=200001,gid=200001" in build(DOCKER, 200_001, 0)
    assert "--user 54321:54321" in build(DOCKER, None, 54_321)
    assert "--pull never" in build(DOCKER, 200_001, 0)


@pytest.mark.parametrize("engine", [PODMAN, DOCKER])
def test_our_group_limits_the_container_where_there_is_one_and_else_the_engine_does(engine: Engine) -> None:
    grouped = build(engine, 200_001, 0, "/squib-1/mch-1")
    assert "--cgroup-parent /squib-1/mch-1" in grouped
    assert "--memory " not in grouped
    alone = build(engine, 200_001, 0)
    assert "--memory 1073741824 --memory-swap 1073741824 --cpus 1.5 --pids-limit 100" in alone


def test_the_users_proxies_are_not_handed_on() -> None:
    assert "--http-proxy=false" in build(PODMAN, 200_001, 0)
    assert "--env https_proxy --env HTTPS_PROXY" in build(DOCKER, 200_001, 0)


def test_a_path_that_no_engine_can_be_told_of_is_refused() -> None:
    with pytest.raises(InfrastructureError, match="comma"):
        build(PODMAN, 200_001, 0, source="/state,dst=/etc")


def test_an_engine_is_known_again_from_what_was_saved() -> None:
    assert Engine.load(PODMAN.saved()) == PODMAN
    assert PODMAN.command("ps") == ["/usr/bin/podman", "--root", "/state/podman", "--runtime", "runc", "ps"]
