"""Where `squib host` listens: a dead one's socket is replaced, a living one's is not, nor another's taken away."""

import socket
from pathlib import Path

import pytest

from squib.cli.listen import CannotListen, listening_at


def _reachable(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(str(path)) == 0


def test_a_living_ones_place_is_left_to_it(shared_tmp: Path) -> None:
    path = shared_tmp / "host.sock"
    with listening_at(f"unix:{path}"):
        with pytest.raises(CannotListen, match="another program"), listening_at(f"unix:{path}"):
            pass
        assert _reachable(path)
    assert not path.exists()


def test_a_dead_ones_place_is_taken(shared_tmp: Path) -> None:
    path = shared_tmp / "host.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    with listening_at(f"unix:{path}") as listener:
        assert listener.url == f"unix:{path}"
        assert _reachable(path)


def test_whoever_goes_takes_no_other_ones_socket_away(shared_tmp: Path) -> None:
    path, kept = shared_tmp / "host.sock", shared_tmp / "kept.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        with pytest.raises(RuntimeError, match="the end"), listening_at(f"unix:{path}"):
            path.rename(kept)
            other.bind(str(path))
            other.listen(1)
            raise RuntimeError("the end")
        assert _reachable(path)
    with pytest.raises(RuntimeError, match="the end"), listening_at(f"unix:{shared_tmp / 'own.sock'}"):
        raise RuntimeError("the end")
    assert not (shared_tmp / "own.sock").exists()
