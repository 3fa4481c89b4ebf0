"""How far apart two arrays are, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from prefect_lume._optional import require

#: Elements that are compared at a time.
_AT_ONCE: Final = 1 << 20


@dataclass(frozen=True)
class Distance:
    """How far apart two values are.

    Attributes:
        close: Whether they agree within the tolerance.
        absolute: The largest absolute difference, if there is a finite one.
        relative: The largest difference relative to the first value.
    """

    close: bool
    absolute: float | None = None
    relative: float | None = None


def array_distance(first: Any, other: Any, rel_tol: float, abs_tol: float) -> Distance:
    """Return how far apart two arrays of numbers are.

    Elements agree by the rule of :func:`math.isclose`; two NaN agree.

    Args:
        first: An array of numbers or truth values.
        other: Another one of the same shape.
        rel_tol: The relative tolerance.
        abs_tol: The absolute tolerance.
    """
    numpy = require("numpy", "Comparing arrays")
    close, absolute, relative = True, 0.0, 0.0
    left, right = first.reshape(-1), other.reshape(-1)
    for start in range(0, left.size, _AT_ONCE):
        a, b = (array[start : start + _AT_ONCE] for array in (left, right))
        with numpy.errstate(all="ignore"):
            same = (a == b) | ((a != a) & (b != b))
            if same.all():
                continue
            apart = numpy.where(same, 0.0, _apart(numpy, a, b))
            bound = numpy.maximum(rel_tol * numpy.maximum(abs(a), abs(b)), abs_tol)
            # Infinities and a single NaN are within no tolerance.
            good = same | ((apart <= bound) & numpy.isfinite(apart))
            close = close and bool(good.all())
            finite = apart[numpy.isfinite(apart)]
            absolute = max(absolute, float(finite.max(initial=0.0)))
            share = apart / abs(a)
            share = share[numpy.isfinite(share)]
            relative = max(relative, float(share.max(initial=0.0)))
    return Distance(close, absolute or None, relative or None)


def _apart(numpy: Any, first: Any, other: Any) -> Any:
    """Return absolute differences which neither wrap around nor vanish."""
    if first.dtype.kind in "bi" and other.dtype.kind in "bi":
        low = numpy.minimum(first, other).astype("<i8").view("<u8")
        return numpy.maximum(first, other).astype("<i8").view("<u8") - low
    if first.dtype.kind == other.dtype.kind == "u":
        return numpy.maximum(first, other) - numpy.minimum(first, other)
    return abs(
        numpy.subtract(first, other, dtype=numpy.result_type(first, other, "f8"))
    )
