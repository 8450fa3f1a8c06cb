"""Images made for real: a small one, built once, and OCI layouts made of pieces of it."""

import asyncio
import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from squib.host.images import Images, build, load
from squib.host.images.store import Kept

SMALL = """
summary = "The least that squib builds"
packages = ["python3-pip"]
pip = ["iniconfig==2.3.1"]
commands = ["(id -u; grep CapEff /proc/self/status) > /opt/rights", "touch /opt/stamp; chmod 4755 /opt/stamp"]
warmup = ["greet | grep -x \\"hello $WHO\\"", "python3 -c 'import iniconfig'"]

[environment]
WHO = "world"

[files]
"/usr/local/share/greet" = "greet"

[links]
"/usr/local/bin/greet" = "../share/greet/greet"
"""


@dataclass
class Watcher:
    """Remembers what it was told."""

    steps: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def step(self, name: str, number: int, total: int) -> None:
        self.steps.append(name)
        assert number == len(self.steps) <= total

    def line(self, text: str) -> None:
        self.lines.append(text)


def definition(folder: Path, text: str = SMALL, name: str = "small") -> Path:
    """A definition's file with what lies beside it."""
    (folder / "greet").mkdir(parents=True, exist_ok=True)
    (folder / "greet" / "greet").write_text('#!/bin/sh\necho "hello $WHO"\n')
    (folder / "greet" / "greet").chmod(0o755)
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """The small image, in a state directory of its own that a sandbox can reach."""
    state = Path(tempfile.mkdtemp(prefix="sq-", dir="/tmp"))
    state.chmod(0o711)
    try:
        wanted = load(str(definition(tmp_path_factory.mktemp("definition"))))
        yield asyncio.run(build(Images(state), wanted, Watcher()))
    finally:
        shutil.rmtree(state, ignore_errors=True)


class Layout:
    """An OCI layout with one layer, written as any engine would."""

    def __init__(self, path: Path):
        self.path = path
        self._layer = io.BytesIO()
        self.tar = tarfile.open(fileobj=self._layer, mode="w")  # noqa: SIM115

    def take(self, root: Path, *names: str) -> "Layout":
        """Files of a root file system, with all below them."""
        for name in names:
            self.tar.add(root / name, arcname=name)
        return self

    def file(self, name: str, content: bytes = b"", mode: int = 0o644, uid: int = 0) -> "Layout":
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.uid = len(content), mode, uid
        self.tar.addfile(info, io.BytesIO(content))
        return self

    def special(self, name: str, kind: bytes, target: str = "") -> "Layout":
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.devmajor, info.devminor = kind, target, 1, 3
        self.tar.addfile(info)
        return self

    def write(self, **config: object) -> Path:
        self.tar.close()
        layer = self._blob(self._layer.getvalue(), "application/vnd.oci.image.layer.v1.tar")
        about = {"architecture": "amd64", "os": "linux", "config": config}
        about |= {"rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}
        configuration = self._blob(json.dumps(about).encode(), "application/vnd.oci.image.config.v1+json")
        manifest = {"schemaVersion": 2, "config": configuration, "layers": [layer]}
        manifest["mediaType"] = kind = "application/vnd.oci.image.manifest.v1+json"
        entry = self._blob(json.dumps(manifest).encode(), kind)
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        (self.path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        return self.path

    def _blob(self, content: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        folder = self.path / "blobs" / "sha256"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")
