import stat

from squib.host.vm import cpio


def read(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """What the archive holds, as the kernel reads it (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while archive[at : at + 6] == b"070701":
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = archive[at + 110 : at + 110 + fields[11] - 1].decode()
        start = at + 110 + fields[11]
        start += -start % 4
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], archive[start : start + fields[6]])
        at = start + fields[6]
        at += -at % 4
    raise AssertionError("the archive has no end")


def test_what_goes_in_comes_out() -> None:
    made = cpio.archive(
        [
            cpio.directory("bin"),
            cpio.file("bin/sh", b"12345", executable=True),
            cpio.file("empty", b""),
        ]
    )
    assert read(made) == {
        "bin": (stat.S_IFDIR | 0o755, b""),
        "bin/sh": (stat.S_IFREG | 0o755, b"12345"),
        "empty": (stat.S_IFREG | 0o644, b""),
    }


def test_another_one_may_follow() -> None:
    assert len(cpio.archive([cpio.file("a", b"x")])) % 512 == 0
