from pathlib import Path

import pytest

from squib.contracts.errors import ImageError
from squib.host.vm import modules


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "kernel" / "drivers"
    folder.mkdir(parents=True)
    for name, depends in (("virtio", ""), ("virtio-ring", "virtio"), ("virtio_net", "virtio_ring,failover,crc32c")):
        (folder / f"{name}.ko").write_bytes(b"\x7fELF\0license=GPL\0depends=" + depends.encode() + b"\0name=x\0")
    (folder / "failover.ko").write_bytes(b"\x7fELF\0no word of dependencies\0")
    (tmp_path / "modules.builtin").write_text("kernel/lib/crc32c.ko\nkernel/fs/ext4/ext4.ko\n")
    return tmp_path


def test_each_comes_after_what_it_depends_on_and_once(tree: Path) -> None:
    found = modules.in_order(tree, ("virtio_net", "ext4", "virtio"))
    assert [path.name for path in found] == ["virtio.ko", "virtio-ring.ko", "failover.ko", "virtio_net.ko"]


def test_one_that_is_not_there_is_named(tree: Path) -> None:
    with pytest.raises(ImageError, match="squashfs"):
        modules.in_order(tree, ("squashfs",))
