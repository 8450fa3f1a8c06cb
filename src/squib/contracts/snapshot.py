"""Snapshots: machines frozen once their guest was warm, from which others start; told by their manifests."""

from dataclasses import dataclass

MANIFEST_VERSION = 1


@dataclass(frozen=True, slots=True)
class Part:
    """A file of the snapshot's; `name` is its path within the snapshot's directory."""

    name: str
    size: int  # bytes
    sha256: str  # over its blocks that are not all zeros, each after its number: most of a machine's memory is zeros


@dataclass(frozen=True, slots=True)
class Fabric:
    """What a frozen machine needs to be just so, where it goes on: another one of these, and it can't."""

    driver: str
    version: str  # of the program that froze it: runsc, QEMU
    kernel: str  # what runs inside: a digest or a version
    cpu: str  # names the processor features that the guest was told of

    def differs(self, other: "Fabric") -> str | None:
        """Names the first difference for a person; None where a machine of one can go on in the other."""
        for name in ("driver", "version", "kernel", "cpu"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"its {name} is {mine}, here it is {theirs}"
        return None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot's manifest. The guest in it still has the identity of the machine that was frozen."""

    id: str  # snp-…
    image: str  # the digest of the image, or "host"
    image_name: str
    fabric: Fabric
    guest: str  # the supervisor in it: its zipapp's name, which has its digest
    cpu: float  # cores that the frozen machine had
    memory: int  # MiB that it had
    disk: int  # MiB that it had
    machine_id: str  # of the frozen machine, to whose token the guest answers until it is told another
    made_with: str  # names the settings that the guest was started with
    created_at: float  # seconds since 1970
    size: int  # bytes that its parts take on the disk: most of a memory or a drive is holes
    parts: tuple[Part, ...] = ()
    thaw: str | None = None  # the name of the file that the guest waits for before it listens again
    version: int = MANIFEST_VERSION
