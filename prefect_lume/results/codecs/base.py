"""What every codec is made of: the codec itself, an envelope's reader, limits."""

from __future__ import annotations

import base64
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from prefect_lume._fingerprint import sha256_bytes
from prefect_lume.errors import DecodingError, EncodingError, IntegrityError, clip
from prefect_lume.results.codecs.keys import MARK

if TYPE_CHECKING:
    from prefect_lume.results.codecs.decoder import Decoder
    from prefect_lume.results.codecs.encoder import Encoder

#: Payloads of more bytes than this leave the tree as blobs, unless told otherwise.
DEFAULT_THRESHOLD: Final = 65_536
#: Containers may be nested this deep.
MAX_DEPTH: Final = 200
#: Integers from here on are kept in an envelope.
INT64: Final = 1 << 63

#: A place in a value: the label of the root, then keys and positions.
Path = tuple[str | int, ...]
LoadBlob = Callable[[str], "bytes | bytearray | memoryview"]


@dataclass(frozen=True)
class VerifiedLoader:
    """A loader of blobs whose source has checked them against their hash already.

    The codecs then check a blob's size only, and nothing is hashed twice. Use it
    around :meth:`DBService.get_blob <prefect_lume.results.stores.DBService>`, and
    around nothing that may return something else than what was asked for.

    Attributes:
        load: Returns the bytes of a blob by its SHA-256, and its size if that is
            known: more must not be read. Each time it is memory of their own, for the
            value that is decoded may be a view of it.

    Example:
        >>> VerifiedLoader(lambda sha256, size=None: b"a")("ca97...")
        b'a'
    """

    load: Callable[..., bytes | bytearray | memoryview]

    def __call__(
        self, sha256: str, size: int | None = None
    ) -> bytes | bytearray | memoryview:
        """Return the bytes of a blob."""
        return self.load(sha256, size)


_MOST_PARTS: Final = 24
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def show_path(path: Path) -> str:
    """Return a place for a message.

    Example:
        >>> show_path(("outputs", "beam", 3, "a b"))
        "outputs.beam[3]['a b']"
    """
    if len(path) > _MOST_PARTS:
        head, tail = path[: _MOST_PARTS // 2], path[-_MOST_PARTS // 2 :]
        return f"{show_path(head)}…{show_path(('', *tail))}"
    text = ""
    for part in path:
        if isinstance(part, str) and part.isidentifier():
            text += f".{clip(part, 60)}" if text else clip(part, 60)
        elif isinstance(part, str) and not text:
            text = clip(part, 60)
        else:
            text += f"[{clip(repr(part), 60)}]"
    return text


def refusal(path: Path, message: str) -> EncodingError:
    """Return the error that a value at some place cannot be stored."""
    return EncodingError(show_path(path), message)


class Codec(ABC):
    """How one kind of value becomes an envelope, and comes back.

    Attributes:
        name: The envelope's ``__lume__``.
        version: The newest version of the envelope that is written and read.
        nested: Whether its large values lie in envelopes inside it.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    nested: ClassVar[bool] = False

    @abstractmethod
    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        """Return the stored form of a value: an envelope, or a plain tree."""

    @abstractmethod
    def decode(self, fields: Fields, decoder: Decoder) -> Any:
        """Return the value of an envelope."""

    def canonical(self, envelope: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what of an envelope counts for the hash.

        The payload's hash is added by the caller, and what is returned is made
        canonical in its turn.
        """
        return {key: item for key, item in envelope.items() if key not in NOT_CONTENT}

    def envelope(self, **fields: Any) -> dict[str, Any]:
        """Return an envelope of this codec with these fields."""
        return {MARK: self.name, "v": self.version, **fields}


#: Fields of an envelope that say how it is stored, not what.
NOT_CONTENT: Final = frozenset({"v", "data", "blob", "size", "sha256", "content"})


def content_hash(envelope: Mapping[str, Any]) -> str | None:
    """Return the hash of an envelope's content, or ``None`` if it has no payload."""
    for key in ("content", "blob", "sha256"):
        if key in envelope:
            return str(envelope[key])
    return None


class Fields:
    """An envelope's fields, read with their types checked.

    Attributes:
        raw: The envelope.
        path: Where it is in the document.
        depth: How many containers are around it.
        memory: The payload, once it was read.
    """

    def __init__(self, raw: Mapping[str, Any], path: Path, depth: int) -> None:
        self.raw = raw
        self.path = path
        self.depth = depth
        self.memory: bytes | bytearray | memoryview = b""

    def error(self, message: str) -> DecodingError:
        """Return the error that this envelope cannot be read."""
        given = self.raw.get(MARK)
        name = clip(repr(given), 60) if isinstance(given, str) else "nameless"
        return DecodingError(
            show_path(self.path), f"the stored {name} envelope {message}"
        )

    def has(self, key: str) -> bool:
        """Tell whether the envelope has a field."""
        return key in self.raw

    def text(self, key: str, default: str | None = None) -> str:
        """Return a field that must be a string."""
        item = self.raw.get(key, default)
        if not isinstance(item, str):
            raise self.error(f"needs the string {key!r}")
        return item

    def integer(self, key: str, low: int = -INT64, high: int = INT64 - 1) -> int:
        """Return a field that must be an integer from ``low`` to ``high``."""
        item = self.raw.get(key)
        if not isinstance(item, int) or isinstance(item, bool):
            raise self.error(f"needs the integer {key!r}")
        if not low <= item <= high:
            raise self.error(f"has {key!r} outside {low}..{high}")
        return item

    def boolean(self, key: str) -> bool:
        """Return a field that is true or false, and false when it is missing."""
        item = self.raw.get(key, False)
        if not isinstance(item, bool):
            raise self.error(f"needs true or false as {key!r}")
        return item

    def items(self, key: str) -> list[Any]:
        """Return a field that must be a list."""
        item = self.raw.get(key)
        if not isinstance(item, list):
            raise self.error(f"needs the list {key!r}")
        return item

    def tree(self, key: str) -> Any:
        """Return a field that must be there, whatever it is."""
        if key not in self.raw:
            raise self.error(f"needs the field {key!r}")
        return self.raw[key]

    def payload(self, decoder: Decoder) -> bytes | bytearray | memoryview:
        """Return the envelope's payload, its size and hash verified.

        Raises:
            IntegrityError: The bytes are not what their hash says.
        """
        if ("data" in self.raw) == ("blob" in self.raw):
            raise self.error("needs either 'data' or 'blob'")
        if "blob" in self.raw:
            self.memory = self._blob(decoder)
            return self.memory
        digest = self._digest("sha256")
        try:
            data = base64.b64decode(self.text("data"), validate=True)
        except ValueError as exc:
            raise self.error("has 'data' that is not base64") from exc
        self._verify(data, digest)
        self.memory = data
        return data

    def _blob(self, decoder: Decoder) -> bytes | bytearray | memoryview:
        digest = self._digest("blob")
        size = self.integer("size", 0)
        if decoder.load_blob is None:
            raise self.error("lies in a blob, and nothing was given to load blobs with")
        if isinstance(decoder.load_blob, VerifiedLoader):
            data = decoder.load_blob(digest, size)
        else:
            data = decoder.load_blob(digest)
        if not isinstance(data, bytes | bytearray | memoryview):
            raise self.error(f"got no bytes for the blob {digest}")
        if memoryview(data).nbytes != size:
            raise IntegrityError(
                f"{show_path(self.path)}: the blob {digest} has "
                f"{memoryview(data).nbytes} bytes instead of {size}."
            )
        if not isinstance(decoder.load_blob, VerifiedLoader):
            self._verify(data, digest)
        return data

    def _digest(self, key: str) -> str:
        digest = self.text(key)
        if not _SHA256.fullmatch(digest):
            raise self.error(f"has {key!r} that is no SHA-256")
        return digest

    def _verify(self, data: bytes | bytearray | memoryview, digest: str) -> None:
        if sha256_bytes(data) != digest:
            raise IntegrityError(
                f"{show_path(self.path)}: the stored bytes are not those that were "
                f"written (their SHA-256 is not {digest})."
            )
