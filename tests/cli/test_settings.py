import os

import pytest

from squib import settings
from squib.contracts.errors import InvalidRequest


@pytest.fixture
def clean(nowhere, monkeypatch):
    for name in [name for name in os.environ if name.startswith("SQUIB_") and name != "SQUIB_STATE_DIR"]:
        monkeypatch.delenv(name)
    return nowhere


def test_defaults(clean):
    loaded = settings.load()
    assert loaded.database == f"sqlite:///{clean}/squib.db"
    assert (loaded.host, loaded.port, loaded.queue, loaded.agent) == ("127.0.0.1", 8080, "sql", "mock")
    assert loaded.sandbox.driver == "auto"


def test_the_environment_wins_over_the_file_and_arguments_over_both(clean, monkeypatch, tmp_path):
    file = tmp_path / "squib.toml"
    file.write_text(
        'port = 1\nhost = "::1"\n[sandbox]\npool_size = 7\nmax_machines = 9\n[agents.claude]\nmax_retries = "2"\n'
    )
    monkeypatch.setenv("SQUIB_CONFIG", str(file))
    monkeypatch.setenv("SQUIB_PORT", "2")
    monkeypatch.setenv("SQUIB_SANDBOX__POOL_SIZE", "8")
    loaded = settings.load(sandbox={"driver": "process"})
    assert (loaded.host, loaded.port) == ("::1", 2)
    assert (loaded.sandbox.pool_size, loaded.sandbox.max_machines, loaded.sandbox.driver) == (8, 9, "process")
    assert loaded.agents == {"claude": {"max_retries": "2"}}
    assert settings.load(port=3).port == 3


def test_the_file_in_the_state_directory_is_read(clean):
    clean.mkdir()
    (clean / "squib.toml").write_text("port = 5\n")
    assert settings.load().port == 5


def test_a_key_makes_claude_the_default_and_is_never_shown(clean, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-foreign")
    loaded = settings.load()
    assert loaded.agent == "claude"
    assert loaded.providers.anthropic.api_key.get_secret_value() == "sk-foreign"
    monkeypatch.setenv("SQUIB_PROVIDERS__ANTHROPIC__API_KEY", "sk-own")
    loaded = settings.load()
    assert loaded.providers.anthropic.api_key.get_secret_value() == "sk-own"
    assert "sk-own" not in repr(loaded) + loaded.model_dump_json()
    monkeypatch.setenv("SQUIB_DEFAULT_AGENT", "mock")
    assert settings.load().agent == "mock"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SQUIB_PORT", "eighty"),
        ("SQUIB_PORT", "70000"),
        ("SQUIB_QUEUE", "kafka"),
        ("SQUIB_DATABASE_URL", "mysql://x"),
        ("SQUIB_SANDBOX__POOL_SIZE", "-1"),
        ("SQUIB_SCHEDULER__LEASE_SECONDS", "0"),
        ("SQUIB_PROVIDERS__ANTHROPIC__BASE_URL", "api.example"),
        ("SQUIB_SECRET_KEY", "short-and-secret"),
        ("SQUIB_LOG_LEVEL", "loud"),
    ],
)
def test_what_is_wrong_is_named_and_its_value_kept_quiet(clean, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidRequest) as caught:
        settings.load()
    assert list(caught.value.fields) == [name]
    assert "short-and-secret" not in caught.value.detail


@pytest.mark.parametrize("text", ["port = ", "prot = 1", "[sandbox]\ndriwer = 'x'"])
def test_a_wrong_file_is_named(clean, monkeypatch, tmp_path, text):
    file = tmp_path / "squib.toml"
    file.write_text(text)
    monkeypatch.setenv("SQUIB_CONFIG", str(file))
    with pytest.raises(InvalidRequest, match=r"squib\.toml|SQUIB_PROT|SQUIB_SANDBOX__DRIWER"):
        settings.load()


def test_an_absent_file_that_was_named_is_an_error(clean, monkeypatch, tmp_path):
    monkeypatch.setenv("SQUIB_CONFIG", str(tmp_path / "absent.toml"))
    with pytest.raises(InvalidRequest, match="SQUIB_CONFIG"):
        settings.load()


def test_the_memory_queue_needs_one_process(clean, monkeypatch):
    monkeypatch.setenv("SQUIB_QUEUE", "memory")
    monkeypatch.setenv("SQUIB_DATABASE_URL", "postgresql://localhost/squib")
    with pytest.raises(InvalidRequest, match="SQUIB_QUEUE"):
        settings.load()


def test_the_key_is_made_once_and_is_its_owners_alone(clean):
    loaded = settings.load()
    key = settings.prepare(loaded)
    assert len(key) >= 32
    assert settings.prepare(loaded) == key
    assert (clean / "secret.key").stat().st_mode & 0o777 == 0o600
    assert clean.stat().st_mode & 0o077 == (0o011 if os.geteuid() == 0 else 0)
    assert [path.name for path in clean.iterdir()] == ["secret.key"]


def test_a_state_directory_that_cannot_be_is_said_so(clean, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SQUIB_STATE_DIR", str(tmp_path / "file" / "state"))
    with pytest.raises(InvalidRequest, match="SQUIB_STATE_DIR"):
        settings.prepare(settings.load())
