"""The house keeps its own rules: what the checks, the locks and the test helpers promise."""

import ast
import os
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.harness import Bench, Target, number, percentile
from tests import leaks
from tests.needs import lack

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "squib"


def _imports(room: str) -> Iterator[tuple[str, str]]:
    place = SOURCE / room
    for path in place.rglob("*.py") if place.is_dir() else [place]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                yield str(path.relative_to(ROOT)), name


def test_every_room_has_its_import_contract() -> None:
    rooms = {path.stem for path in SOURCE.iterdir() if path.name.endswith(".py") or (path / "__init__.py").exists()}
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    bound = {module.removeprefix("squib.") for contract in contracts for module in contract["source_modules"]}
    assert rooms - {"__init__", "__main__"} <= bound


@pytest.mark.parametrize(
    ("room", "packages"),
    [("contracts", set()), ("agents", set()), ("guest", {"h11", "wsproto"}), ("paths.py", set())],
)
def test_what_must_start_fast_and_anywhere_imports_little(room: str, packages: set[str]) -> None:
    allowed = sys.stdlib_module_names | packages | {"squib"}
    foreign = [(path, name) for path, name in _imports(room) if name.split(".")[0] not in allowed]
    assert foreign == []


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


def test_a_percentile_is_one_of_the_samples() -> None:
    samples = [float(n) for n in range(100, 0, -1)]
    assert [percentile(samples, q) for q in (0.01, 0.5, 0.99, 1)] == [1, 50, 99, 100]
    assert percentile([7.0], 0.99) == 7


@pytest.mark.parametrize(
    ("samples", "target", "ok"),
    [
        ([1.0] * 99 + [9.0] * 2, Target(median=2, p99=8), False),
        ([1.0] * 99 + [9.0] * 2, Target(median=2, p99=9), True),
        ([3.0] * 100, Target(median=2), False),
        ([500.0, 1000.0, 1000.0], Target(median=1000, at_least=True), True),
        ([500.0, 1000.0, 1000.0], Target(p99=1000, at_least=True), False),
    ],
)
def test_a_target_is_met_or_missed(samples: list[float], target: Target, ok: bool) -> None:
    assert Bench().add("a row", "ms", samples, target=target).ok is ok


def test_numbers_have_three_digits() -> None:
    assert [number(n) for n in (0.12345, 12.345, 123456, 1000)] == ["0.123", "12.3", "123,000", "1,000"]
