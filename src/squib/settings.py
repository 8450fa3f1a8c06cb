"""Settings: environment variables `SQUIB_…` (nested with `__`), then the TOML file that SQUIB_CONFIG names.

Without SQUIB_CONFIG, `squib.toml` in the state directory is read where there is one. An environment variable wins
over the file. `load()` is the only way in: its errors name the variable and say what to do.
"""

import contextlib
import os
import re
import secrets
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from squib import paths
from squib.contracts.errors import InvalidRequest

_NESTED = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class SandboxSettings(BaseModel):
    """How sandboxes are made on this host."""

    model_config = _NESTED

    driver: str = "auto"
    """Which driver makes sandboxes; `auto` takes the strongest that boots here. `process` isolates nothing."""
    pool_size: int = Field(default=2, ge=0, le=1000)
    """How many ready sandboxes wait for a task."""
    max_machines: int = Field(default=64, ge=1, le=10_000)
    """How many sandboxes may exist at once; a task beyond it waits."""
    uid_base: int = Field(default=200_000, ge=1000, le=4_000_000_000)
    """Started by root, each sandbox runs under a host uid of its own; the first of them."""
    uid_count: int = Field(default=1000, ge=1, le=1_000_000)
    """How many host uids from `uid_base` on belong to squib alone."""
    python: str | None = None
    """The CPython (3.11 or newer) that runs the supervisor in a sandbox; absent: found by itself."""
    tools: Path | None = None
    """A directory of agents' programs, shown read-only in each sandbox (`npm install --prefix DIR …`); absent:
    /opt/squib-tools, where that is there."""
    image: str | None = None
    """The image (name or digest) of a task that names none; absent: the host's own programs, read-only."""
    lease_seconds: float = Field(default=120.0, ge=5, le=86_400)
    """A sandbox that its host has not asked after for so many seconds ends itself."""


class DaemonSettings(BaseModel):
    """`squib host`: where it listens and what it has to give."""

    model_config = _NESTED

    listen: str = "127.0.0.1:8090"
    """Where the host's own API listens: ADDRESS:PORT, or unix:PATH. Beyond loopback, put TLS in front of it."""
    cpu_overcommit: float = Field(default=8.0, ge=0.1, le=1000)
    """How many times each core may be promised: agents mostly wait for their model."""
    memory: int | None = Field(default=None, ge=256, le=16_777_216)
    """MiB that all sandboxes together may be promised; absent: this machine's, or its container's."""
    disk: int | None = Field(default=None, ge=64, le=1_073_741_824)
    """MiB likewise; absent: only what is really free counts."""

    @field_validator("listen")
    @classmethod
    def _is_place(cls, value: str) -> str:
        if re.fullmatch(r"unix:/.+|[^\s:/]+:\d{1,5}|\[[0-9a-fA-F:.]+\]:\d{1,5}", value) is None:
            raise ValueError("must be ADDRESS:PORT or unix:/PATH")
        if not value.startswith("unix:") and int(value.rpartition(":")[2]) > 65_535:
            raise ValueError("must have a port of at most 65535")
        return value


class ImagesSettings(BaseModel):
    """How images are built."""

    model_config = _NESTED

    apt_sources: Path | None = None
    """A file of apt sources (one-line or deb822) that images are built from; absent: the machine's own."""


class SchedulerSettings(BaseModel):
    """How tasks are worked on."""

    model_config = _NESTED

    concurrency: int = Field(default=16, ge=1, le=1000)
    """How many tasks one scheduler works on at a time; never more than `sandbox.max_machines`,
    where it makes its sandboxes itself."""
    lease_seconds: float = Field(default=15.0, ge=2, le=3600)
    """After so many seconds without a sign of life, another scheduler takes over a task."""
    save_seconds: float = Field(default=5.0, ge=0.5, le=3600)
    """How often the work is saved outside the sandbox, in seconds, beside each commit."""
    suspend_after_seconds: float = Field(default=60.0, ge=15, le=86_400)
    """An idle task's sandbox that nobody has used for so many seconds is put to disk with its memory, where its
    driver can; a follow-up, a terminal or a file lets it go on where it was."""
    put_away_after_seconds: float = Field(default=900.0, ge=15, le=86_400)
    """Where that can't be done (its driver can't, or not with what runs in the background), its work alone is kept
    after so many seconds, and the sandbox goes: a follow-up gets a new one with the work in it. Processes, installed
    packages and the agent's own session end."""
    max_attempts: int = Field(default=3, ge=1, le=100)
    """How many sandboxes a task may take when the infrastructure fails; an agent's failure is never retried."""


class ProviderSettings(BaseModel):
    """A model provider that the gateway reaches for the sandboxes."""

    model_config = _NESTED

    api_key: SecretStr | None = None
    """The provider's key. It is added outside and never enters a sandbox."""
    base_url: str = "https://api.anthropic.com"
    """Where the provider's API is; a model server of your own, or a test's, goes here."""

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")


class ProvidersSettings(BaseModel):
    """The model providers, by name."""

    model_config = _NESTED

    anthropic: ProviderSettings = Field(default_factory=ProviderSettings)
    """Anthropic's Messages API, for `claude`. ANTHROPIC_API_KEY is taken where `api_key` is not set."""


class Settings(BaseSettings):
    """All that can be set."""

    model_config = SettingsConfigDict(
        env_prefix="SQUIB_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
    )

    state_dir: Path = Field(default_factory=paths.default_state_dir)
    """Where squib keeps all it keeps. Default: /var/lib/squib for root, else `$XDG_STATE_HOME/squib` or
    ~/.local/state/squib."""
    database_url: str | None = None
    """SQLAlchemy's URL of the database, `sqlite:///PATH` or `postgresql://…`. Default: squib.db in `state_dir`."""
    queue: Literal["sql", "memory"] = "sql"
    """What wakes the schedulers. `memory` works within one process only."""
    host: str = "127.0.0.1"
    """The address that the API listens on. Beyond loopback, put TLS in front of it."""
    port: int = Field(default=8080, ge=0, le=65_535)
    """The port that the API listens on; 0 takes a free one."""
    allowed_hosts: list[str] = Field(default_factory=list)
    """Further host names that a request may be addressed to (JSON list); loopback names and `host` always may."""
    default_agent: str | None = None
    """The agent of a task that names none. Default: `claude` where an Anthropic key is set, else `mock`."""
    sandbox: SandboxSettings = Field(default_factory=SandboxSettings)
    """How sandboxes are made."""
    daemon: DaemonSettings = Field(default_factory=DaemonSettings)
    """`squib host`."""
    host_url: str | None = None
    """Where `squib scheduler` finds its host: http://ADDRESS:PORT, https://… or unix:/PATH of a `squib host`.
    Absent: the scheduler makes sandboxes in its own process. `squib up` always does."""
    images: ImagesSettings = Field(default_factory=ImagesSettings)
    """How images are built."""
    scheduler: SchedulerSettings = Field(default_factory=SchedulerSettings)
    """How tasks are worked on."""
    retention_days: float = Field(default=30.0, gt=0, le=36_500)
    """Artifacts of tasks that ended longer ago than this are removed."""
    agents: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Per agent: settings that are not secret and that the sandbox may see, as agents.NAME.KEY."""
    providers: ProvidersSettings = Field(default_factory=ProvidersSettings)
    """Model providers."""
    secret_key: SecretStr | None = None
    """What tokens between squib and its sandboxes are derived from; at least 32 characters, the same for all
    roles of an installation. Default: made at the first start and kept in `state_dir`/secret.key (0600)."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is logged."""
    log_format: Literal["auto", "console", "json"] = "auto"
    """How log lines look; `auto`: `console` on a terminal, else `json`."""

    @field_validator("state_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("database_url")
    @classmethod
    def _known_dialect(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("sqlite:", "sqlite+", "postgresql:", "postgresql+")):
            raise ValueError("must start with sqlite:///, or postgresql://")
        return value

    @field_validator("secret_key")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 32:
            raise ValueError("must have at least 32 characters: `openssl rand -hex 32` makes some")
        return value

    @model_validator(mode="after")
    def _memory_is_local(self) -> "Settings":
        if self.queue == "memory" and not self.sqlite:
            raise ValueError("SQUIB_QUEUE=memory works within one process: use sql with PostgreSQL")
        return self

    @property
    def database(self) -> str:
        """The database's URL, with the default filled in."""
        return self.database_url or f"sqlite:///{self.state_dir / 'squib.db'}"

    @property
    def sqlite(self) -> bool:
        """Whether the database serves one process only."""
        return self.database.startswith("sqlite")

    @property
    def agent(self) -> str:
        """The agent of a task that names none, with the default filled in."""
        return self.default_agent or ("claude" if self.providers.anthropic.api_key else "mock")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the TOML file, then variables that others named."""
        key = os.environ.get("ANTHROPIC_API_KEY")
        foreign = {"providers": {"anthropic": {"api_key": key}}} if key else {}
        toml = TomlConfigSettingsSource(settings_cls, paths.config_file())
        return init_settings, env_settings, toml, InitSettingsSource(settings_cls, foreign)


def load(**overrides: Any) -> Settings:
    """Read the settings; `overrides` win over all. Raises InvalidRequest, which names the variable."""
    file = paths.config_file()
    if os.environ.get("SQUIB_CONFIG") and not file.is_file():
        raise InvalidRequest(f"SQUIB_CONFIG names {file}, which is no file", advice="Correct or unset SQUIB_CONFIG.")
    try:
        return Settings(**overrides)
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequest(f"{file} is not TOML: {error}", advice="Correct the file.") from error
    except OSError as error:
        raise InvalidRequest(f"cannot read {file}: {error.strerror}", advice="Make the file readable.") from error
    except SettingsError as error:
        raise InvalidRequest(f"settings: {error}", advice="Lists and tables are given as JSON.") from error
    except ValidationError as error:
        raise _named(error) from None


def _named(error: ValidationError) -> InvalidRequest:
    """Say which variable is wrong, without its value: it may be a secret."""
    fields = {}
    for item in error.errors(include_url=False, include_input=False):
        name = "SQUIB_" + "__".join(str(part) for part in item["loc"]).upper() if item["loc"] else "settings"
        fields[name] = "is not a known setting" if item["type"] == "extra_forbidden" else item["msg"]
    detail = "; ".join(f"{name}: {message}" for name, message in fields.items())
    return InvalidRequest(detail, advice="Correct it in the environment or in squib.toml.", fields=fields)


def prepare(settings: Settings) -> bytes:
    """Make the state directory and return the installation's key, made and kept at the first start.

    What this process makes from here on is its user's alone, unless it says otherwise. Raises InvalidRequest where
    the directory can't be written.
    """
    directory = settings.state_dir
    os.umask(0o077)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # sandboxes run under other uids when root starts them: they pass through, but can't list
        directory.chmod(0o711 if os.geteuid() == 0 else 0o700)
        if settings.secret_key is not None:
            return settings.secret_key.get_secret_value().encode()
        return _kept_key(directory / "secret.key")
    except OSError as error:
        raise InvalidRequest(
            f"SQUIB_STATE_DIR: {error.filename or directory}: {error.strerror}",
            advice="Set SQUIB_STATE_DIR to a directory that you may write, or correct its owner.",
            fields={"SQUIB_STATE_DIR": str(error.strerror)},
        ) from error


def _kept_key(path: Path) -> bytes:
    """Read the key, or make it: linked into place whole, so that two first starts agree on one."""
    if not path.exists():
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        fresh.touch(mode=0o600, exist_ok=False)
        try:
            fresh.write_text(secrets.token_hex(32) + "\n")
            with contextlib.suppress(FileExistsError):
                os.link(fresh, path)
        finally:
            fresh.unlink()
    return path.read_text().strip().encode()
