import os
from pathlib import Path

from squib.host import recall
from squib.host.layout import StateDir


def test_what_was_found_is_told_under_the_same_key_alone(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    assert recall.recall(state, "gvisor", ["a"]) is None
    recall.remember(state, "gvisor", ["a"], ["python", 1])
    assert recall.recall(state, "gvisor", ["a"]) == ["python", 1]
    assert recall.recall(state, "gvisor", ["a", "b"]) is None
    assert recall.recall(state, "qemu", ["a"]) is None
    assert [path.name for path in tmp_path.iterdir()] == ["probe-gvisor.json"]


def test_what_is_not_whole_is_as_good_as_absent(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    for broken in ("", "[]", '[["a"]', "null", '[["a"], 3]'):
        (tmp_path / "probe-gvisor.json").write_text(broken)
        assert recall.recall(state, "gvisor", ["a"]) is None


def test_another_build_of_a_program_has_another_fingerprint(tmp_path: Path) -> None:
    program = tmp_path / "runsc"
    absent = recall.fingerprint(program)
    program.write_text("one")
    first = recall.fingerprint(program)
    os.utime(program, ns=(1, 1))
    assert len({absent, first, recall.fingerprint(program)}) == 3


def test_a_kernel_is_known_by_its_boot() -> None:
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() in recall.kernel()
