"""Finding the server: SQUIB_URL and SQUIB_TOKEN, else the file that `squib up` leaves for the same user."""

import json
import os
from pathlib import Path

from squib import paths
from squib.cli.exits import NoConnection
from squib.client import AsyncClient, Client


def find() -> tuple[str, str | None]:
    """The server's URL and the token. Raises NoConnection where none is known."""
    if url := os.environ.get("SQUIB_URL"):
        return url, os.environ.get("SQUIB_TOKEN")
    file = paths.state_dir() / paths.CONNECTION_FILE
    try:
        document = json.loads(_own(file))
        return str(document["url"]), os.environ.get("SQUIB_TOKEN") or str(document["token"])
    except FileNotFoundError:
        raise NoConnection(f"no squib runs here: there is no {file}") from None
    except PermissionError as error:
        raise NoConnection(
            f"{file}: {error.strerror}", advice="It belongs to the user who runs 'squib up'."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoConnection(f"{file} can't be read: {error}") from error


def _own(file: Path) -> str:
    """Read the file unless another user made it: a token must not go to a stranger's server."""
    with file.open() as stream:
        if os.fstat(stream.fileno()).st_uid != os.geteuid():
            raise PermissionError(1, "belongs to another user")
        return stream.read()


def client() -> Client:
    """A client for the server."""
    url, token = find()
    return Client(url, token)


def async_client() -> AsyncClient:
    """An asynchronous client for the server."""
    url, token = find()
    return AsyncClient(url, token)
