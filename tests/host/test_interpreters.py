import json
import subprocess
import sys
from pathlib import Path

import pytest

from squib.host import interpreters


def test_this_python_says_what_it_is() -> None:
    said = subprocess.run(
        [sys.executable, *interpreters.FLAGS, "-c", interpreters.CHECK], capture_output=True, check=True
    ).stdout
    finding = interpreters.parse(said)
    assert finding is not None
    assert finding.version == sys.version_info[:3]
    assert finding.recent
    assert not finding.confined, "no filter holds this process"


@pytest.mark.parametrize("said", [b"", b"nonsense", b"{}", b'{"version": 3}', b"bwrap: execvp: No such file\n"])
def test_what_is_no_answer_is_none(said: bytes) -> None:
    assert interpreters.parse(said) is None


@pytest.mark.parametrize(
    ("change", "confined"),
    [({}, True), ({"CapEff": "0000000000000001"}, False), ({"NoNewPrivs": "0"}, False), ({"Seccomp": "0"}, False)],
)
def test_confined_means_no_capability_no_privileges_and_a_filter(change: dict[str, str], confined: bool) -> None:
    seen = {"version": [3, 10, 1], "CapEff": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2", **change}
    finding = interpreters.parse(json.dumps(seen).encode())
    assert finding is not None
    assert finding.confined is confined
    assert not finding.recent


def test_the_named_one_alone_is_tried_where_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/python3").touch()
    (tmp_path / "usr/bin/python3.12").touch()
    assert interpreters.candidates(None, tmp_path) == ["/usr/bin/python3", "/usr/bin/python3.12"]
    assert interpreters.candidates("/usr/bin/python3.12", tmp_path) == ["/usr/bin/python3.12"]
    assert interpreters.candidates("/nowhere/python3", tmp_path) == []
