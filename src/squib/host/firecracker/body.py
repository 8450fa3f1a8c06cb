"""Bodies to and from the bytes on the wire."""

import dataclasses
import enum
import json
from typing import Any, TypeVar

from squib.contracts import codec
from squib.host.firecracker.models import FullVmConfiguration

T = TypeVar("T")


def dump(body: Any) -> bytes:
    """A request's body. A mapping, as the metadata store's content is, goes as it stands."""
    return json.dumps(_plain(body), ensure_ascii=False, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {name: _plain(held) for name, held in fields.items() if held is not None}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    return value.value if isinstance(value, enum.Enum) else value


def load(kind: type[T], raw: bytes) -> T:
    """Read an answer. Types and required fields are checked; fields of a later version are passed over.

    Raises InvalidRequest, which names the field.
    """
    document = codec.loads(dict[str, Any], raw)
    if kind is FullVmConfiguration:  # the one kind whose names have hyphens
        document = {name.replace("-", "_"): held for name, held in document.items()}
    return codec.decode(kind, document, lenient=True)
