"""What tools leave behind is no work: it is in no save, unless the repository says otherwise."""

from pathlib import Path

from squib.contracts.guest import PushRequest
from tests.conformance.guest.conftest import Guest


async def test_what_tools_leave_behind_is_not_saved(guest: Guest, tmp_path: Path) -> None:
    await guest.out(
        "git init -q -b main . && mkdir -p __pycache__ node_modules/x && echo > kept.txt"
        " && echo > __pycache__/a.cpython-311.pyc && echo > node_modules/x/i.js && git add -A && git commit -qm a"
    )
    assert (await guest.out("git ls-files")).split() == ["kept.txt"]
    state = await guest.link.push(PushRequest(), tmp_path / "bundle")
    assert state is not None and state.work is None


async def test_a_repository_overrules_it(guest: Guest, tmp_path: Path) -> None:
    await guest.out(
        "git init -q -b main . && mkdir node_modules && echo '!node_modules/' > .gitignore"
        " && echo > node_modules/mine.js && git add -A && git commit -qm a"
    )
    assert (await guest.out("git ls-files")).split() == [".gitignore", "node_modules/mine.js"]
