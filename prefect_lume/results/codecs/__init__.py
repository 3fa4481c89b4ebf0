"""Values as plain trees and content-addressed payloads, without pickle.

:func:`encode` turns a value into JSON types and the payloads that left them,
:func:`decode` turns them back. What JSON has no form for is an envelope
``{"__lume__": <codec>, "v": 1, ...}``; ``docs/results-format.md`` describes each.
No class is ever named by data.
"""

from __future__ import annotations

from prefect_lume.results.codecs.base import DEFAULT_THRESHOLD as DEFAULT_THRESHOLD
from prefect_lume.results.codecs.base import MAX_DEPTH as MAX_DEPTH
from prefect_lume.results.codecs.base import LoadBlob as LoadBlob
from prefect_lume.results.codecs.base import VerifiedLoader as VerifiedLoader
from prefect_lume.results.codecs.canonical import canonical as canonical
from prefect_lume.results.codecs.decoder import decode as decode
from prefect_lume.results.codecs.encoder import Encoded as Encoded
from prefect_lume.results.codecs.encoder import encode as encode
from prefect_lume.results.codecs.encoder import encode_for_hash as encode_for_hash
from prefect_lume.results.codecs.keys import MARK as MARK
from prefect_lume.results.codecs.keys import escape_key as escape_key
from prefect_lume.results.codecs.keys import unescape_key as unescape_key
from prefect_lume.results.codecs.lazy import Lazy as Lazy
from prefect_lume.results.codecs.lazy import StoredBytes as StoredBytes

__all__ = [
    "DEFAULT_THRESHOLD",
    "MARK",
    "MAX_DEPTH",
    "Encoded",
    "Lazy",
    "LoadBlob",
    "StoredBytes",
    "VerifiedLoader",
    "canonical",
    "decode",
    "encode",
    "encode_for_hash",
    "escape_key",
    "unescape_key",
]
