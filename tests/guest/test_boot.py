"""What PID 1 does where nobody has done it: shown in namespaces of its own."""

import json
import subprocess
from pathlib import Path

import pytest

import squib

_SOURCES = Path(squib.__file__).parent.parent
_SHOW = """
import sys; sys.path.insert(0, sys.argv[1])
import json, os
from squib.guest import boot
boot.prepare()
print(json.dumps([os.readlink("/proc/self"), sorted(os.listdir("/tmp")), os.getcwd()]))
"""


@pytest.mark.needs("root", "unshare")
def test_pid_1_mounts_what_is_missing() -> None:
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--net", "--uts", "--fork", "python3", "-I", "-c", _SHOW, str(_SOURCES)],
        capture_output=True,
        text=True,
        timeout=30,
        cwd="/usr",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["1", [], "/"]


@pytest.mark.needs("unshare")
def test_pid_1_without_rights_does_without() -> None:
    done = subprocess.run(
        ["unshare", "--map-user=1000", "--mount", "--pid", "--fork", "python3", "-I", "-c", _SHOW, str(_SOURCES)],
        capture_output=True,
        text=True,
        timeout=30,
        cwd="/usr",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[2] == "/"


@pytest.mark.needs("unshare")
def test_loopback_comes_up() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from squib.guest import boot; boot._loopback_up();"
        "import socket; socket.create_server(('127.0.0.1', 0)); s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        "s.connect(('127.0.0.1', 9)); print('up')"
    )
    command = ["unshare", "--user", "--map-root-user", "--net", "python3", "-I", "-c", script, str(_SOURCES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if "Operation not permitted" in done.stderr and "unshare" in done.stderr:
        pytest.skip("no user namespaces here")
    assert done.stdout == "up\n", done.stderr


def test_nothing_but_the_three_streams_goes_to_children() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import os; from squib.guest import boot; boot.prepare();"
        "print([fd for fd in range(3, 64) if os.path.exists(f'/proc/self/fd/{fd}') and os.get_inheritable(fd)])"
    )
    with open("/etc/passwd", "rb") as file:
        done = subprocess.run(
            ["python3", "-I", "-c", script, str(_SOURCES)], pass_fds=(file.fileno(),), capture_output=True, text=True
        )
    assert done.stdout == "[]\n", done.stderr
