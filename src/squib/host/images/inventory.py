"""What is installed in a root file system, by the records that the package managers left in it."""

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from squib.contracts.image import Package
from squib.host.images.inroot import Root
from squib.host.images.tidy import walk

_MOST = 20_000


def of(root: Root, npm: Sequence[str]) -> tuple[Package, ...]:
    """Packages of apt (or apk), pip and npm, in order. What can't be read is left out: records are untrusted."""
    found = {*_apt(root), *_apk(root), *_pip(root), *(p for folder in npm for p in _npm(root, folder))}
    return tuple(sorted(found, key=lambda p: (p.kind, p.name, p.version))[:_MOST])


def _apt(root: Root) -> Iterator[Package]:
    for stanza in root.read("/var/lib/dpkg/status", 64 * 1024 * 1024).decode("utf-8", "replace").split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|Status): (.*)$", stanza, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed") and {"Package", "Version"} <= fields.keys():
            yield Package("apt", fields["Package"], fields["Version"])


def _apk(root: Root) -> Iterator[Package]:
    text = root.read("/lib/apk/db/installed", 64 * 1024 * 1024).decode("utf-8", "replace")
    for name, version in re.findall(r"^P:(.*)\n(?:[^\n].*\n)*?V:(.*)$", text, re.MULTILINE):
        yield Package("apk", name, version)


def _pip(root: Root) -> Iterator[Package]:
    """Of every Python in it: the folders NAME-VERSION.dist-info."""
    for entry in walk(root):
        name, dash, version = entry.name.removesuffix(".dist-info").rpartition("-")
        if dash and entry.name.endswith(".dist-info"):
            yield Package("pip", re.sub(r"[-_.]+", "-", name).lower(), version)


def _npm(root: Root, folder: str) -> Iterator[Package]:
    """Of a lock file, as far as it fits this platform: what is there."""
    with contextlib.suppress(ValueError, AttributeError, TypeError):
        lock = json.loads(root.read(f"{folder}/package-lock.json"))
        for place, about in lock["packages"].items():
            if place and root.exists(str(PurePosixPath(folder, place, "package.json"))):
                yield Package(
                    "npm", str(about.get("name") or place.rpartition("node_modules/")[2]), str(about["version"])
                )
