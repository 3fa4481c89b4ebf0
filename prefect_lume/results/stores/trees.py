"""Documents as text, and which blobs they hold."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from prefect_lume._fingerprint import ascii_json
from prefect_lume.results.stores.blobs import BlobInfo

#: A tree as ASCII JSON with sorted keys; it reads back exactly.
to_json: Final = ascii_json

_MARK: Final = "__lume__"
_HASH: Final = re.compile(r"[0-9a-f]{64}")


def blob_infos(
    tree: Any, get_blob: Callable[[str], bytes | bytearray]
) -> Iterator[BlobInfo]:
    """Yield the blobs that a document needs, each once.

    Args:
        tree: The document.
        get_blob: Loads a part of the document that is a blob itself, to look into. It
            is called after that blob was yielded.

    Example:
        >>> digest = "0" * 64
        >>> envelope = {"__lume__": "bytes", "v": 1, "blob": digest, "size": 3}
        >>> [info.size for info in blob_infos({"a": [envelope, envelope]}, {}.get)]
        [3]
    """
    seen: set[str] = set()
    pending = [tree]
    while pending:
        item = pending.pop()
        if isinstance(item, Mapping):
            digest, size = item.get("blob"), item.get("size")
            if (
                _MARK in item
                and isinstance(digest, str)
                and _HASH.fullmatch(digest)
                and digest not in seen
            ):
                seen.add(digest)
                yield BlobInfo(digest, size if isinstance(size, int) else -1)
                if item[_MARK] == "tree":
                    pending.append(json.loads(get_blob(digest)))
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def blobs_of(tree: Any, get_blob: Callable[[str], bytes | bytearray]) -> Iterator[str]:
    """Yield the hashes of the blobs that a document needs, as :func:`blob_infos`."""
    return (info.sha256 for info in blob_infos(tree, get_blob))
