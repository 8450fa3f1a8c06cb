import multiprocessing
from pathlib import Path

from squib.host.layout import MachineDir


def _in_use(path: Path) -> bool:
    return MachineDir(path).in_use


def test_a_directory_is_in_use_while_another_process_holds_it(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as others:
        assert not others.apply(_in_use, (tmp_path,))
        with MachineDir(tmp_path).held():
            assert others.apply(_in_use, (tmp_path,))
        assert not others.apply(_in_use, (tmp_path,))
        assert not others.apply(_in_use, (tmp_path / "absent",))
