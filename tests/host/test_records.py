from dataclasses import replace
from pathlib import Path

import pytest

from squib.contracts import ids
from squib.contracts.machine import Machine, MachinePhase, MachineSpec
from squib.host import records


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine_id = ids.new_id("mch")
    directory = tmp_path / machine_id
    directory.mkdir()
    return Machine(
        id=machine_id,
        driver="process",
        phase=MachinePhase.READY,
        spec=MachineSpec(machine_id, agents={"claude": {"base": "x"}}),
        directory=str(directory),
        endpoint=f"unix:{directory}/guest/guest.sock",
        created_at=1.5,
        pid=7,
        pid_start=99,
        cgroups=("/a", "/b"),
    )


def test_a_record_comes_back_as_it_was_written(machine: Machine) -> None:
    records.save(machine)
    records.save(claimed := replace(machine, phase=MachinePhase.CLAIMED, sandbox_id="sbx-1", expires_at=9.0))
    assert records.load(Path(machine.directory)) == claimed


@pytest.mark.parametrize("sizes", [(10, 20, 10), (10, 9000, 10), (9000, 10, 9000), (4096, 4000, 4096)])
def test_a_record_that_grows_and_shrinks_comes_back_as_it_was_written_last(
    machine: Machine, sizes: tuple[int, ...]
) -> None:
    for size in sizes:
        records.save(saved := replace(machine, ended="x" * size))
        assert records.load(Path(machine.directory)) == saved


def test_a_short_record_is_written_over_in_its_place(machine: Machine) -> None:
    records.save(machine)
    inode = (Path(machine.directory) / "machine.json").stat().st_ino
    records.save(replace(machine, phase=MachinePhase.DELETING))
    assert (Path(machine.directory) / "machine.json").stat().st_ino == inode
    assert [path.name for path in Path(machine.directory).iterdir()] == ["machine.json"]


def test_a_record_is_for_its_owner_alone(machine: Machine) -> None:
    records.save(machine)
    assert (Path(machine.directory) / "machine.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"id": "mch-x"}', b"\xff\xfe"])
def test_a_broken_record_is_none(machine: Machine, content: bytes) -> None:
    (Path(machine.directory) / "machine.json").write_bytes(content)
    assert records.load(Path(machine.directory)) is None


def test_a_record_of_another_machine_is_none(machine: Machine, tmp_path: Path) -> None:
    records.save(machine)
    elsewhere = tmp_path / ids.new_id("mch")
    Path(machine.directory).rename(elsewhere)
    assert records.load(elsewhere) is None


def test_no_record_is_none(tmp_path: Path) -> None:
    assert records.load(tmp_path) is None
