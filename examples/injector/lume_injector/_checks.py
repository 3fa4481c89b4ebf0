"""Checks of arguments, with messages that name the argument and what is allowed."""

import math


def positive(name: str, value: float, unit: str = "") -> float:
    """Return ``value`` if it is finite and above zero.

    Args:
        name: The argument's name, for the message.
        value: What was given.
        unit: The unit, for the message.

    Raises:
        ValueError: It is zero, negative, infinite or not a number.

    Example:
        >>> positive("length", 0.5, "m")
        0.5
    """
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be above 0{_in(unit)}; it is {value!r}.")
    return float(value)


def not_negative(name: str, value: float, unit: str = "") -> float:
    """Return ``value`` if it is finite and zero or above.

    Raises:
        ValueError: It is negative, infinite or not a number.

    Example:
        >>> not_negative("length", 0)
        0.0
    """
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be 0 or above{_in(unit)}; it is {value!r}.")
    return float(value)


def finite(name: str, value: float, unit: str = "") -> float:
    """Return ``value`` if it is a finite number.

    Raises:
        ValueError: It is infinite or not a number.

    Example:
        >>> finite("k1", -7)
        -7.0
    """
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number{_in(unit)}; it is {value!r}.")
    return float(value)


def at_least(name: str, value: int, least: int) -> int:
    """Return ``value`` if it is a whole number and not below ``least``.

    Raises:
        ValueError: It is smaller, or not a whole number.

    Example:
        >>> at_least("steps", 20, 1)
        20
    """
    if isinstance(value, bool) or int(value) != value or value < least:
        raise ValueError(
            f"{name} must be a whole number, {least} or above; it is {value!r}."
        )
    return int(value)


def _in(unit: str) -> str:
    return f" (in {unit})" if unit else ""
