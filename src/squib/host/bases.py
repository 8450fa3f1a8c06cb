"""What machines are made of: the host's own root, or an image of the store, resolved once and remembered."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from squib.contracts.errors import NotFound
from squib.host.images.store import Images, Kept

HOST = "host"


@dataclass(frozen=True, slots=True)
class Base:
    """A root file system as machines need it; without arguments the host's own, read-only."""

    image: str = HOST  # as MachineSpec.image: "host", or the path of a root file system
    name: str = HOST
    digest: str = HOST
    drive: str | None = None
    python: str | None = None  # None: the driver finds one
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    warmup: tuple[str, ...] = ()

    @property
    def is_host(self) -> bool:
        """Whether it is the host's own root."""
        return self.image == HOST


class Bases:
    """The images of an installation by what a task calls them. `default` (name or digest) is for tasks without."""

    def __init__(self, images: Images, default: str | None = None):
        self._images = images
        self._default = default
        self._known: dict[str, Base] = {}

    @property
    def default(self) -> Base:
        """What tasks get that name no image. Raises NotFound or ImageError where the settings' one is not there."""
        return self.resolve(None)

    def resolve(self, name: str | None) -> Base:
        """The base that an image's name or digest means; None: the default. Raises NotFound or ImageError."""
        name = self._default if name is None else name
        if name is None:
            return Base()
        digest = self._images.digest_of(name)
        if digest is None:
            raise NotFound(
                f"there is no image {name} on this host",
                advice=f"'squib image list' shows those that are here; 'squib image build {name}' may make it.",
            )
        if digest not in self._known:  # an image never changes, and its manifest is long
            self._known[digest] = _base(self._images.get(digest))
        return self._known[digest]

    def any(self) -> Base | None:
        """The newest image that there is: what a driver that can't use the host's own root is tried with."""
        found = self._images.all()
        return _base(found[0]) if found else None


def _base(kept: Kept) -> Base:
    image = kept.image
    return Base(
        str(kept.rootfs),
        image.name,
        image.digest,
        str(kept.drive),
        image.python,
        dict(image.environment),
        image.warmup,
    )
