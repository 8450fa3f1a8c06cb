import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from squib.contracts import ids
from squib.host import cgroups

LIMITS = cgroups.Limits(cpu=1.5, memory=256 * 1024 * 1024, pids=50)

HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / {root}/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / {root}/memory rw - cgroup cgroup rw,memory
39 31 0:36 / {root}/pids rw - cgroup cgroup rw,pids
40 31 0:37 / {root}/systemd rw - cgroup cgroup rw,xattr,name=systemd
"""


@pytest.fixture
def groups(tmp_path: Path) -> Iterator[cgroups.Cgroups]:
    made = cgroups.here(tmp_path)
    if not made.hierarchies:
        pytest.skip("no control group hierarchy is writable here")
    yield made
    made.close()


def test_version_1_hierarchies_are_found_by_their_controllers(tmp_path: Path) -> None:
    for name in ("cpu,cpuacct", "memory", "pids", "systemd"):
        (tmp_path / name).mkdir()
    found = cgroups.detect(HYBRID.format(root=tmp_path), "4:memory:/x\n0::/\n")
    assert {h.root.name: set(h.controllers) for h in found} == {
        "cpu,cpuacct": {"cpu"},
        "memory": {"memory"},
        "pids": {"pids"},
    }


def test_version_2_is_taken_at_the_highest_group_that_may_be_written_and_hides_version_1(tmp_path: Path) -> None:
    unified = tmp_path / "unified"
    for group in (unified, unified / "user.slice", unified / "user.slice" / "mine"):
        group.mkdir()
        (group / "cgroup.procs").write_text("")
        (group / "cgroup.controllers").write_text("cpu memory pids\n")
        (group / "cgroup.subtree_control").write_text("cpu memory pids\n")
    (tmp_path / "memory").mkdir()
    mounts = (
        f"41 31 0:38 / {unified} rw - cgroup2 cgroup2 rw\n"
        f"35 31 0:32 / {tmp_path}/memory rw - cgroup cgroup rw,memory\n"
    )
    (found,) = cgroups.detect(mounts, "0::/user.slice/mine\n")
    assert found.root == unified
    assert found.controllers == {"cpu", "memory", "pids"}


def test_no_hierarchy_is_no_error() -> None:
    assert cgroups.detect("31 23 0:28 / / rw - ext4 /dev/x rw\n", "0::/\n") == ()


@pytest.fixture(params=["whatever limits here", "version 2 alone"])
def holding(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[cgroups.Cgroups]:
    made = cgroups.here(tmp_path)
    if request.param == "version 2 alone":
        mounts = "\n".join(
            line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "cgroup2" in line
        )
        made = cgroups.Cgroups(cgroups.detect(mounts, "0::/\n"), made.name)
    if not made.hierarchies:
        pytest.skip("no such control group hierarchy is writable here")
    yield made
    made.close()


async def test_a_process_that_enters_the_groups_is_ended_with_its_forks_and_the_groups_are_removed(
    holding: cgroups.Cgroups,
) -> None:
    paths = holding.create(ids.new_id("mch"), LIMITS)
    # The shell forks on while it is being ended: none may slip away.
    script = "for file; do echo 0 > $file; done; echo; while :; do sleep 50 & sleep 0.01; done"
    argv = ("sh", "-c", script, "sh", *cgroups.entrances(paths))
    one = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    assert one.stdout is not None
    await one.stdout.readline()
    assert one.pid in cgroups.members(paths)
    assert await cgroups.kill(paths)
    await one.wait()
    assert cgroups.members(paths) == set()
    assert cgroups.remove(paths)
    assert not any(Path(path).exists() for path in paths)
    assert await cgroups.kill(paths)
    assert cgroups.remove(paths), "twice is fine"


def test_limits_may_be_raised_and_lowered_in_use(groups: cgroups.Cgroups) -> None:
    if "memory" not in groups.controllers:
        pytest.skip("no memory controller")
    paths = groups.create(ids.new_id("mch"), LIMITS)
    try:
        for size in (1024 * 1024 * 1024, 128 * 1024 * 1024):
            cgroups.limit(paths, cgroups.Limits(1.0, size, 100))
            files = [Path(p) / f for p in paths for f in ("memory.limit_in_bytes", "memory.max")]
            assert [int(f.read_text()) for f in files if f.exists()] == [size]
    finally:
        cgroups.remove(paths)


def test_orphans_are_machines_of_ours_alone(groups: cgroups.Cgroups) -> None:
    known, orphan = ids.new_id("mch"), ids.new_id("mch")
    mine, lost = groups.create(known, LIMITS), groups.create(orphan, LIMITS)
    other = groups.hierarchies[0].root / groups.name / "somebody-elses"
    other.mkdir()
    try:
        assert groups.orphans({known}) == {orphan: lost}
    finally:
        other.rmdir()
        assert cgroups.remove(mine)
        assert cgroups.remove(lost)


def test_the_installations_own_group_is_made_again_when_a_probe_has_removed_it(groups: cgroups.Cgroups) -> None:
    groups.close()
    assert groups.orphans(set()) == {}
    paths = groups.create(ids.new_id("mch"), LIMITS)
    assert all(Path(path).is_dir() for path in paths)
    assert cgroups.remove(paths)


def test_two_state_directories_never_share_a_group(tmp_path: Path) -> None:
    assert cgroups.group_name(tmp_path / "a") != cgroups.group_name(tmp_path / "b")
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert cgroups.group_name(tmp_path / "link") == cgroups.group_name(tmp_path / "a")


def test_a_hierarchy_that_may_not_be_written_is_not_used(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    made = cgroups.Cgroups((cgroups.Hierarchy(blocked, 1, frozenset({"memory"})),), "squib-test")
    assert made.hierarchies == ()
    assert made.controllers == {}
    assert made.create(ids.new_id("mch"), LIMITS) == ()
    assert blocked.is_file()


def test_a_group_that_gives_way_has_its_usual_share_again(groups: cgroups.Cgroups) -> None:
    if "cpu" not in groups.controllers:
        pytest.skip("no control group limits cpu here")
    paths = groups.create(ids.new_id("mch"), LIMITS)
    try:
        files = [Path(p) / name for p in paths for name in ("cpu.weight", "cpu.shares")]
        shares = {file: int(file.read_text()) for file in files if file.exists()}
        assert shares
        with cgroups.yielding(paths):
            assert all(int(file.read_text()) * 10 < usual for file, usual in shares.items())
        with cgroups.yielding(paths, really=False):
            assert {file: int(file.read_text()) for file in shares} == shares
    finally:
        cgroups.remove(paths)
