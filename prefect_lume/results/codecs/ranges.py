"""Ranges together: a few bytes that would stand for very much memory.

A range by itself takes no memory, whatever its length. As levels of one index, or as
the ends of intervals, its values are written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from prefect_lume._optional import require
from prefect_lume.results.codecs.base import Fields

#: Ranges that nothing but ranges go with may be so long.
_LONGEST_RANGE: Final = 1 << 24


def check_bytes(indices: Sequence[Any], fields: Fields) -> None:
    """Refuse indices that are ranges all, of a length that nothing else bears out.

    Raises:
        DecodingError: They would take far more memory than they are stored in.
    """
    lengths = {len(index) for index in indices}
    if len(lengths) != 1:
        raise fields.error("holds indices of different lengths")
    ranges = all(type(index).__name__ == "RangeIndex" for index in indices)
    if ranges and max(lengths) > _LONGEST_RANGE:
        raise fields.error(f"holds ranges of {max(lengths)} values that nothing has")


def with_bytes(indices: list[Any]) -> list[Any]:
    """Return indices that :func:`check_bytes` accepts, equal to those given."""
    first, *others = indices
    ranges = all(type(index).__name__ == "RangeIndex" for index in indices)
    if ranges and len(first) > _LONGEST_RANGE:
        first = require("pandas").Index(first.to_numpy(), name=first.name)
    return [first, *others]
