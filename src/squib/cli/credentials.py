"""What `squib up` leaves in the state directory for the same user: the first token, and where it listens."""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from squib import paths
from squib.store import Store

_TOKEN_FILE = "token"
#: The user of an installation that has no others.
_USER = "local"


async def first_token(store: Store, state_dir: Path) -> str:
    """The token that the first start made, or a new one where that is gone or revoked."""
    file = state_dir / _TOKEN_FILE
    with contextlib.suppress(FileNotFoundError):
        kept = file.read_text().strip()
        if kept and await store.users.authenticate(kept) is not None:
            return kept
    user = await store.users.ensure(_USER)
    _, secret = await store.users.create_token(user, "squib up")
    _write(file, secret + "\n")
    return secret


@contextlib.contextmanager
def announced(state_dir: Path, url: str, token: str) -> Iterator[None]:
    """Let the commands of the same user find this server for as long as the block lasts."""
    file = state_dir / paths.CONNECTION_FILE
    _write(file, json.dumps({"url": url, "token": token, "pid": os.getpid()}) + "\n")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _write(file: Path, text: str) -> None:
    """Replace the file whole, readable by its owner alone."""
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    fresh.replace(file)
