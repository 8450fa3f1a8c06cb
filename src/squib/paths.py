"""Where squib keeps things. Standard library alone, so that a client command need not load the settings for it."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

#: In the state directory: the address and token of a running `squib up`, for commands of the same user.
CONNECTION_FILE = "connection.json"


def default_state_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Say where state lies unless told otherwise: /var/lib/squib for root, else below XDG_STATE_HOME."""
    if os.geteuid() == 0:
        return Path("/var/lib/squib")
    base = environ.get("XDG_STATE_HOME") or ""
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "squib"


def config_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Say which TOML file holds the settings; it need not exist unless SQUIB_CONFIG names it."""
    if named := environ.get("SQUIB_CONFIG"):
        return Path(named)
    return Path(environ.get("SQUIB_STATE_DIR") or default_state_dir(environ)) / "squib.toml"


def state_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Find the state directory as the settings would, without validating the rest of them."""
    if named := environ.get("SQUIB_STATE_DIR"):
        return Path(named).expanduser().absolute()
    try:
        document = tomllib.loads(config_file(environ).read_text())
    except (OSError, ValueError):
        document = {}
    named = document.get("state_dir")
    return Path(named).expanduser().absolute() if isinstance(named, str) else default_state_dir(environ)
