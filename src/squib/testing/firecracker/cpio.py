"""Files out of an initramfs: archives of cpio's `newc` form, one after the other, unpacked."""

_MAGIC = b"070701"
_HEAD = 110  # bytes of a header
_TRAILER = "TRAILER!!!"


def files(raw: bytes) -> dict[str, bytes]:
    """Every file's content by its path; a later archive's goes before an earlier one's. What is none ends it."""
    found: dict[str, bytes] = {}
    at = 0
    while raw[at : at + len(_MAGIC)] == _MAGIC:
        fields = [int(raw[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        size, length = fields[6], fields[11]
        name = raw[at + _HEAD : at + _HEAD + length - 1].decode("utf-8", "replace")
        begin = _padded(at + _HEAD + length)
        if name != _TRAILER:
            found[name] = raw[begin : begin + size]
        at = _padded(begin + size)
        while name == _TRAILER and raw[at : at + 4] == bytes(4):
            at += 4
    return found


def _padded(at: int) -> int:
    return at + -at % 4
