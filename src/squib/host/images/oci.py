"""Makes an image of an OCI image: from a registry, a layout on the disk or an archive that an engine has saved."""

import asyncio
import json
import re
import tarfile
from pathlib import Path
from typing import Any

from squib.contracts.errors import ImageError, InvalidRequest
from squib.contracts.image import check_name
from squib.host.images import finish, inroot
from squib.host.images.finish import Facts, Steps
from squib.host.images.runner import Progress, ending_with_us, require, run, writable_by
from squib.host.images.store import Images, Kept, Workshop

_TRANSPORTS = ("docker://", "oci:", "oci-archive:", "docker-archive:", "dir:")
_LARGEST_DOCUMENT = 4 * 1024 * 1024


def transport(reference: str) -> str:
    """The reference as skopeo takes it: paths are looked at, anything else is a registry's. Raises InvalidRequest."""
    if reference.startswith(_TRANSPORTS):
        return reference
    if reference.startswith("-") or not reference or re.search(r"\s", reference):
        raise InvalidRequest(f"{reference!r} is no image reference", fields={"source": "is no image reference"})
    path = Path(reference)
    if (path / "oci-layout").is_file():
        return f"oci:{path.absolute()}"
    if path.is_file():
        return f"{'oci-archive' if _holds_layout(path) else 'docker-archive'}:{path.absolute()}"
    if path.exists() or reference.startswith(("/", "./", "../")):
        raise InvalidRequest(
            f"{reference} is neither an OCI layout nor an archive of an image", fields={"source": "holds no image"}
        )
    return f"docker://{reference}"


def _holds_layout(path: Path) -> bool:
    try:
        with tarfile.open(path) as archive:
            return any(name.removeprefix("./") == "oci-layout" for name in archive.getnames())
    except (OSError, tarfile.TarError):
        return False


def default_name(reference: str) -> str:
    """A name from the last part of the reference, without its tag and ending. Raises InvalidRequest."""
    last = reference.rstrip("/").rpartition("/")[2].partition("@")[0]
    name = re.sub(r"\.(tar|tar\.gz|tgz)$", "", last).partition(":")[0].lower()
    return check_name(re.sub(r"[^a-z0-9._-]", "-", name))


async def import_(images: Images, reference: str, name: str, progress: Progress) -> Kept:
    """Fetch and unpack the image, add the supervisor, and let `name` mean it. Raises ImageError, InvalidRequest.

    The image must bring a CPython of 3.11 or newer: one from elsewhere might not run on its C library.
    """
    finish.check_root()
    source = transport(reference)
    require("skopeo", "umoci", "mksquashfs", "bwrap", "setpriv", "unshare")
    user = finish.user_of(images)
    steps = Steps(progress, 2 + len(finish.STEPS))
    with images.workshop() as workshop:
        layout = workshop.path / "layout"
        steps.next("fetch")
        argv = ("skopeo", "--insecure-policy", "copy", "--override-os", "linux", source, f"oci:{layout}:image")
        advice = (
            "See whether the reference is right and its registry answers; an archive is what 'docker save' writes."
        )
        await run(ending_with_us(*argv), progress, "skopeo", advice=advice)
        steps.next("unpack")
        environment = _environment(layout)
        unpacked = workshop.path / "unpacked"
        await run(ending_with_us("umoci", "unpack", "--image", f"{layout}:image", str(unpacked)), progress, "umoci")
        await asyncio.to_thread(_move, workshop, unpacked, user)
        facts = Facts(name, reference, f"imported from {reference}", environment)
        return await finish.finish(images, workshop, facts, steps, progress, user)


def _move(workshop: Workshop, unpacked: Path, user: int) -> None:
    (unpacked / "rootfs").rename(workshop.rootfs)
    writable_by(workshop.scratch, user)
    with inroot.opened(workshop.rootfs) as root:
        for name in ("/usr/bin", "/bin"):
            if root.exists(f"{name}/sh"):
                return
    raise ImageError("the image has no shell at /bin/sh", advice="Import an image with a shell: agents run commands.")


def _environment(layout: Path) -> dict[str, str]:
    """The variables of the image's configuration, but for those that the sandbox sets itself."""
    try:
        index = _document(layout / "index.json")
        manifest = _blob(layout, index["manifests"][0]["digest"])
        pairs = _blob(layout, manifest["config"]["digest"]).get("config", {}).get("Env") or []
        found = dict(str(pair).split("=", 1) for pair in pairs)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ImageError(f"the image's configuration can't be read: {error}") from error
    return {name: value for name, value in found.items() if name not in ("HOME", "USER", "HOSTNAME", "TERM")}


def _blob(layout: Path, digest: str) -> Any:
    found = re.fullmatch(r"(sha256):([0-9a-f]{64})", digest)
    if found is None:
        raise ValueError(f"{digest!r} is no digest")
    return _document(layout / "blobs" / found[1] / found[2])


def _document(path: Path) -> Any:
    if path.stat().st_size > _LARGEST_DOCUMENT:
        raise ValueError(f"{path.name} is too large")
    return json.loads(path.read_bytes())
