"""The house keeps its own rules: what the checks, the locks and the test helpers promise."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests import leaks
from tests.needs import lack

ROOT = Path(__file__).parent.parent


def test_a_sandbox_can_traverse_the_shared_directory_and_name_a_socket_in_it(shared_tmp: Path) -> None:
    assert stat.S_IMODE(shared_tmp.stat().st_mode) == 0o711
    assert len(str(shared_tmp)) < 20


def test_a_leftover_process_is_found_by_its_directory_and_missed_once_it_ended(shared_tmp: Path) -> None:
    assert leaks.find(str(shared_tmp)) == []
    program = [sys.executable, "-c", "input()"]
    with subprocess.Popen(program, cwd=shared_tmp, stdin=subprocess.PIPE) as process:
        assert [line for line in leaks.find(str(shared_tmp)) if f"process {process.pid}:" in line]
    assert leaks.find(str(shared_tmp)) == []


@pytest.mark.needs("bwrap")
def test_a_sandbox_is_found_by_what_it_has_mounted(shared_tmp: Path) -> None:
    inner = ["bwrap", "--unshare-pid", "--ro-bind", "/", "/", "--bind", str(shared_tmp), "/mnt", "cat"]
    drop = ["setpriv", "--reuid", "199999", "--regid", "199999", "--clear-groups", "--"] if os.geteuid() == 0 else []
    shared_tmp.chmod(0o777)
    with subprocess.Popen([*drop, *inner], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/") as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"up\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"up\n"
        assert any(line.endswith(": cat ") for line in leaks.find(str(shared_tmp)))


def test_a_program_that_does_not_exist_is_a_lack_that_setup_could_cure() -> None:
    missing = lack("no-such-program-anywhere")
    assert missing is not None and missing.curable
