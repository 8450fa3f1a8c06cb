"""Images: the root file systems that sandboxes are made of, as their manifests tell of them."""

import re
from dataclasses import dataclass, field
from typing import Literal

from squib.contracts.errors import InvalidRequest

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_name(text: str) -> bool:
    """Whether an image may be called so: check it before it becomes part of a path."""
    return _NAME.fullmatch(text) is not None and not is_digest(text)


def is_digest(text: str) -> bool:
    """Whether `text` has the form of a content digest."""
    return _DIGEST.fullmatch(text) is not None


def check_name(text: str) -> str:
    """`text`, if an image may be called so. Raises InvalidRequest."""
    if not is_name(text):
        message = "must be 1 to 64 of a-z, 0-9, '.', '_' and '-', and begin and end with a letter or digit"
        raise InvalidRequest(f"image: {message}", fields={"image": message})
    return text


@dataclass(frozen=True, slots=True)
class Package:
    """Something that was installed, and from which kind of registry."""

    kind: Literal["apk", "apt", "npm", "pip"]
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image's manifest. Two builds of the same input have the same digest."""

    name: str  # that it was made under; the store's names say which image a name means now
    digest: str  # SHA-256, in hex, over every file's path, kind, mode, owner and content
    created_at: float  # seconds since 1970
    size: int  # bytes of the files in it
    drive_size: int  # bytes of the same as a read-only squashfs
    drive_sha256: str
    source: str  # "definition NAME", or the reference that it was imported from
    guest: str  # the supervisor in it: its zipapp's SHA-256
    python: str  # the path of the Python that runs the supervisor
    summary: str = ""
    environment: dict[str, str] = field(default_factory=dict)  # of every program in the sandbox
    warmup: tuple[str, ...] = ()  # shell commands that run before a machine is frozen or waits in the pool
    packages: tuple[Package, ...] = ()
