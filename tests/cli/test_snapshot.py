"""`squib snapshot …` and `squib kernel …` where there is little; that they are really made, others show."""

from pathlib import Path

import pytest

from squib.cli import exits
from squib.contracts import codec
from squib.contracts.ids import new_id
from squib.contracts.image import Package
from squib.host.vm.kernels import Kernel


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, shared_tmp: Path) -> Path:
    """A state directory whose name leaves room for those of sockets."""
    monkeypatch.setenv("SQUIB_STATE_DIR", str(shared_tmp))
    return shared_tmp


def test_without_any_the_lists_say_how_to_make_one(call):
    done = call("snapshot", "list")
    assert done.code == exits.OK and "squib snapshot build IMAGE" in done.out
    assert call("snapshot", "list", "--json").out == ""
    done = call("kernel", "show")
    assert done.code == exits.NOT_FOUND and "squib kernel build" in done.err


@pytest.mark.parametrize("arguments", [("show", "absent"), ("rm", "absent"), ("build", "cobol")])
def test_what_is_not_there_is_not_found(call, short, arguments):
    assert call("snapshot", *arguments).code == exits.NOT_FOUND


def test_one_that_can_not_be_read_is_named_and_can_be_removed(call, short: Path):
    name = new_id("snp")
    (short / "snapshots" / name).mkdir(parents=True)
    assert f"{name}  " in call("snapshot", "list").out and "can't be read" in call("snapshot", "list").out
    told = call("snapshot", "show", name, "--json")
    assert told.code == exits.FAILED and not told.json["usable"] and "manifest" in told.json["why_not"]
    assert call("snapshot", "rm", name).out == f"{name} is removed\n"
    assert not (short / "snapshots" / name).exists()


def test_the_kernel_that_is_there_is_shown(call, nowhere: Path):
    kept = nowhere / "kernel" / "abc"
    kept.mkdir(parents=True)
    kernel = Kernel("abc", "6.1.0-1-cloud", 1.0, 40_000_000, (Package("apt", "linux-image", "6.1"),))
    (kept / "manifest.json").write_bytes(codec.dumps(kernel))
    (nowhere / "kernel" / "current").symlink_to("abc")
    shown = call("kernel", "show").out
    assert "6.1.0-1-cloud" in shown and "40 MB" in shown and "linux-image 6.1" in shown and str(kept) in shown
    assert call("kernel", "show", "--json").json["version"] == "6.1.0-1-cloud"
