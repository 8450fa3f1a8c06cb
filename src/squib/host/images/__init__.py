"""Images: root file systems for machines, built from definitions or imported, kept by the digest of their content.

Does: build what a definition (`images/NAME.toml`) says from the package registries, without a container engine;
import OCI images; hold them in `<state>/images`, where drivers find an unpacked root and a read-only drive. Must not
know drivers or machines. Whatever a package or an imported image brings runs under a user without rights, and no
link in it is followed outside. The host and the composition root (`squib.cli`) import it.
"""

from squib.host.images.build import build
from squib.host.images.definition import Definition, load, names
from squib.host.images.oci import import_
from squib.host.images.runner import Progress
from squib.host.images.store import Images

__all__ = ["Definition", "Images", "Progress", "build", "import_", "load", "names"]
