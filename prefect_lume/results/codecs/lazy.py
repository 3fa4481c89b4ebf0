"""A stored value that is not loaded yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prefect_lume.results.codecs.keys import MARK


class Lazy:
    """A large stored value that is loaded, and verified, when it is asked for.

    Each call of :meth:`load` reads it again; keep what it returns.

    Attributes:
        envelope: The stored envelope, which tells the size and often the shape.
    """

    __slots__ = ("_load", "envelope")

    def __init__(self, envelope: Mapping[str, Any], load: Callable[[], Any]) -> None:
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
        return self._load()

    def __repr__(self) -> str:
        return f"Lazy({self.codec!r}, size={self.size}, sha256={self.sha256!r})"
