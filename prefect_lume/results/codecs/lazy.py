"""A stored value that is not loaded yet."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prefect_lume.errors import InvalidInputError, clip
from prefect_lume.results.codecs.keys import MARK

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_LARGEST: Final = (1 << 63) - 1


@dataclass(frozen=True)
class StoredBytes:
    """Bytes that are in the results database already, as a blob.

    A result that holds it is stored with a reference to the blob, whatever its size;
    the bytes are never in memory. Loading gives the bytes themselves, or a
    :class:`Lazy` with ``lazy=True``. For the hash it is the same as the bytes.

    The blob must be in the database that the result is stored in, which refuses the
    result with an ``IntegrityError`` otherwise.

    Attributes:
        sha256: The SHA-256 of the content, by which the blob is found.
        size: The content's size in bytes.

    Example:
        >>> from prefect_lume.results.codecs import encode
        >>> encode(StoredBytes("ab" * 32, 10**11)).tree["size"]
        100000000000
    """

    sha256: str
    size: int

    def __post_init__(self) -> None:
        given: object = self.sha256
        if not isinstance(given, str) or not _SHA256.fullmatch(given):
            raise InvalidInputError(
                "The sha256 of stored bytes is 64 hexadecimal digits in lower case, "
                f"not {clip(repr(given), 80)}."
            )
        number: object = self.size
        if type(number) is not int or not 0 <= number <= _LARGEST:
            raise InvalidInputError(
                f"The size of stored bytes is a number from 0, not "
                f"{clip(repr(number), 80)}."
            )


class Lazy:
    """A large stored value that is loaded, and verified, when it is asked for.

    Each call of :meth:`load` reads it again; keep what it returns.

    A result that holds it can be stored again without loading it: it keeps the
    envelope it came from, and with it the blob. That blob must be in the database that
    the result is stored in, which refuses it with an ``IntegrityError`` otherwise; to
    store it in another one, put the value there: ``value.load()``. A list or dict that
    left its document as a whole (codec ``tree``) is the exception: it is opened,
    because its hash is that of what is in it; large values inside it stay lazy.

    Attributes:
        envelope: The stored envelope, which tells the size and often the shape.
    """

    __slots__ = ("_load", "envelope")

    def __init__(self, envelope: Mapping[str, Any], load: Callable[..., Any]) -> None:
        """Keep an envelope and what reads it.

        Args:
            envelope: The stored envelope.
            load: Returns the value. Called with ``lazy=True``, it leaves the large
                values inside it as lazy ones.
        """
        self.envelope = envelope
        self._load = load

    @property
    def codec(self) -> str:
        """The name of the codec, for example ``"array"``."""
        return str(self.envelope.get(MARK))

    @property
    def size(self) -> int:
        """The payload's size in bytes, 0 if the envelope does not tell."""
        size = self.envelope.get("size", 0)
        return size if isinstance(size, int) else 0

    @property
    def sha256(self) -> str:
        """The payload's SHA-256."""
        return str(self.envelope.get("blob", ""))

    def load(self) -> Any:
        """Read the value from its blob.

        Raises:
            IntegrityError: The blob is not what its hash says.
            DecodingError: It cannot be read by this version.
        """
        return self._load(lazy=False)

    def open(self) -> Any:
        """Read the value, and leave the large values in a list or dict lazy.

        Raises:
            IntegrityError: The blob is not what its hash says.
            DecodingError: It cannot be read by this version.
        """
        return self._load(lazy=True)

    def __repr__(self) -> str:
        return f"Lazy({self.codec!r}, size={self.size}, sha256={self.sha256!r})"
