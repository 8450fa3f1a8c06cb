"""The attempts are real: where nothing isolates, or with root's rights, the same ones succeed."""

import dataclasses
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.drivers.bench import Bench
from tests.conformance.escape import table
from tests.conformance.escape.arena import arena, made_ready, packed
from tests.conformance.escape.attempts.base import Bait, Shown
from tests.conformance.escape.attempts.runner import everything
from tests.conformance.escape.baits import laid_out

#: Namespaces of its own for whoever is root, so that what succeeds there changes nothing here.
_APART = (
    "unshare",
    "--mount",
    "--net",
    "--ipc",
    "--uts",
    "--cgroup",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)


def _shown(where: Shown) -> list[str]:
    return [attempt.id for attempt in everything().values() if attempt.shown is where]


def test_there_are_many_and_each_is_explained() -> None:
    attempts = everything().values()
    assert len(attempts) >= 80
    assert all(a.tries.endswith(".") and a.why.endswith(".") and a.wins for a in attempts)
    assert len(_shown(Shown.USER)) + len(_shown(Shown.ROOT)) >= 50


@pytest.fixture
def bench(benches: Callable[[str], Bench]) -> Bench:
    return made_ready(benches("process"))


def test_the_page_tells_of_each() -> None:
    assert table.PAGE.read_text() == table.text(), "python -m tests.conformance.escape.table writes it anew"


async def test_where_nothing_isolates_they_succeed(shared_tmp: Path, bench: Bench) -> None:
    async with arena(shared_tmp, "process", bench) as open_to_all:
        outcomes = await open_to_all.attack(_shown(Shown.USER))
        assert {name: o for name, o in outcomes.items() if o["outcome"] != "won"} == {}
        assert len(open_to_all.baits.asked) >= 4, "by path, by abstract name, by TCP and by UDP"


@pytest.mark.needs("root", "unshare")
def test_with_roots_rights_they_succeed(shared_tmp: Path) -> None:
    outcomes = _as_root(shared_tmp, _shown(Shown.ROOT))
    assert {name: o for name, o in outcomes.items() if o["outcome"] != "won"} == {}


def _as_root(place: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    with laid_out(place) as baits:
        known = dataclasses.asdict(baits)
        del known["asked"]
        more = {"directory": str(place), "machines": str(place), "guest": str(place / "none"), "own_kernel": False}
        bait = Bait(**known, **more, readonly=(baits.file,), closed=(str(place),))
        with zipfile.ZipFile(io.BytesIO(packed())) as archive:
            archive.extractall(place / "program")
        work = place / "work"
        work.mkdir()
        done = subprocess.run(
            [*_APART, sys.executable, str(place / "program")],
            input=json.dumps({"bait": dataclasses.asdict(bait), "attempts": names}),
            capture_output=True,
            text=True,
            cwd=work,
            timeout=100,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return {one["id"]: one for one in map(json.loads, done.stdout.splitlines())}
