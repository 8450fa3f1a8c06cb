import json
import os

import pytest

from squib.cli import connect
from squib.cli.credentials import announced
from squib.cli.exits import NoConnection


def test_the_file_of_a_running_squib_is_found_and_gone_afterwards(nowhere):
    nowhere.mkdir()
    with announced(nowhere, "http://127.0.0.1:9", "sqb_x"):
        file = nowhere / "connection.json"
        assert file.stat().st_mode & 0o777 == 0o600
        assert connect.find() == ("http://127.0.0.1:9", "sqb_x")
    assert list(nowhere.iterdir()) == []
    with pytest.raises(NoConnection):
        connect.find()


def test_the_environment_comes_first(nowhere, monkeypatch):
    nowhere.mkdir()
    with announced(nowhere, "http://127.0.0.1:9", "sqb_x"):
        monkeypatch.setenv("SQUIB_TOKEN", "sqb_mine")
        assert connect.find() == ("http://127.0.0.1:9", "sqb_mine")
        monkeypatch.setenv("SQUIB_URL", "http://elsewhere")
        assert connect.find() == ("http://elsewhere", "sqb_mine")
        monkeypatch.delenv("SQUIB_TOKEN")
        assert connect.find() == ("http://elsewhere", None), "a local token must not go to another server"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"url": "http://x"}'])
def test_a_broken_file_is_said_so(nowhere, text):
    nowhere.mkdir()
    (nowhere / "connection.json").write_text(text)
    with pytest.raises(NoConnection):
        connect.find()


@pytest.mark.needs("root")
def test_a_strangers_file_is_not_believed(nowhere):
    nowhere.mkdir()
    file = nowhere / "connection.json"
    file.write_text(json.dumps({"url": "http://evil", "token": "x"}))
    os.chown(file, 12345, 12345)
    with pytest.raises(NoConnection, match="another user"):
        connect.find()


def test_the_state_directory_of_the_settings_file_is_used(nowhere, monkeypatch, tmp_path):
    monkeypatch.delenv("SQUIB_STATE_DIR")
    (tmp_path / "squib.toml").write_text(f'state_dir = "{nowhere}"\n')
    monkeypatch.setenv("SQUIB_CONFIG", str(tmp_path / "squib.toml"))
    nowhere.mkdir()
    with announced(nowhere, "http://127.0.0.1:9", "sqb_x"):
        assert connect.find()[0] == "http://127.0.0.1:9"


def test_nobody_there(call, monkeypatch):
    monkeypatch.setenv("SQUIB_URL", "http://127.0.0.1:1")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    done = call("list")
    assert done.code == 3
    assert "127.0.0.1:1" in done.err
    assert "squib up" in done.err
