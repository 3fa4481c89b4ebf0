"""Beamline elements, their transfer matrices, and the transport of a bunch.

**Coordinates.** A particle is the column vector

    (x, px / p0, y, py / p0, -c dt, dE / (p0 c))

relative to a reference particle of momentum p0 and velocity beta0 c, which carries
the bunch's mean energy. Position and momentum are canonical, dt is the arrival time
after the reference particle's, dE the energy deviation. These are the variables
(x, PX, y, PY, T, PT) of MAD-8 and MAD-X. In them every matrix here is symplectic at
any energy: the ``beta0`` of a 6 MeV beam is not taken as 1.

**Sources.** F. C. Iselin, *The MAD Program, Version 8.13: Physical Methods Manual*,
CERN/SL/92, chapter on transfer matrices (drift, quadrupole, solenoid); the same
transverse blocks are in K. L. Brown, *A First- and Second-Order Matrix Theory for
the Design of Beam Transport Systems and Charged Particle Spectrometers*, SLAC-75, and
in H. Wiedemann, *Particle Accelerator Physics*.

**What is left out.** The maps are linear: no chromatic or geometric aberrations.
There is no space charge, no acceleration and no misalignment.
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lume_injector._checks import finite, not_negative

#: J of the symplectic condition M.T @ J @ M == J.
SYMPLECTIC_FORM = np.kron(np.eye(3), [[0.0, 1.0], [-1.0, 0.0]])


@dataclass(frozen=True)
class Element(ABC):
    """One piece of a beamline.

    Attributes:
        length: Length along the beam, in m, 0 or above.
        name: A label for plots and tables.
    """

    length: float
    name: str = ""

    def __post_init__(self) -> None:
        not_negative(f"length of {self._label()}", self.length, "m")

    def _label(self) -> str:
        kind = type(self).__name__
        return f"{kind} {self.name!r}" if self.name else kind

    def matrix(self, beta_gamma: float, length: float | None = None) -> np.ndarray:
        """Return the 6 by 6 transfer matrix of the element, or of its first part.

        Args:
            beta_gamma: beta0 * gamma0 = p0 / (m c) of the reference particle.
            length: How much of the element, in m; all of it if ``None``.

        Returns:
            The matrix, in the coordinates of this module.
        """
        part = self.length if length is None else length
        result = np.eye(6)
        result[:4, :4] = self._transverse(part)
        # d(arrival)/d(energy): a faster particle gains on the reference particle.
        result[4, 5] = part / beta_gamma**2
        return result

    @abstractmethod
    def _transverse(self, length: float) -> np.ndarray:
        """Return the 4 by 4 matrix of (x, px, y, py) over a length."""

    def as_dict(self) -> dict[str, Any]:
        """Return the element as plain data; :func:`element` is the inverse.

        Example:
            >>> Drift(0.5).as_dict()
            {'type': 'Drift', 'length': 0.5, 'name': ''}
        """
        return {"type": type(self).__name__, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Drift(Element):
    """Free space.

    Each plane has the block ``[[1, L], [0, 1]]``.

    Example:
        >>> Drift(2.0).matrix(beta_gamma=10.0)[0].tolist()
        [1.0, 2.0, 0.0, 0.0, 0.0, 0.0]
    """

    def _transverse(self, length: float) -> np.ndarray:
        return _two_planes(_plane(0.0, length), _plane(0.0, length))


@dataclass(frozen=True)
class Quadrupole(Element):
    """A hard-edged quadrupole.

    With k = ``k1`` the focusing plane has the block
    ``[[cos f, sin f / w], [-w sin f, cos f]]``, w = sqrt(k), f = w L; the other plane
    has cosh, sinh and plus instead.

    Attributes:
        k1: Normalised gradient G / (B rho), in 1/m**2; above 0 focuses in x.
    """

    k1: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(f"k1 of {self._label()}", self.k1, "1/m**2")

    def _transverse(self, length: float) -> np.ndarray:
        return _two_planes(_plane(self.k1, length), _plane(-self.k1, length))


@dataclass(frozen=True)
class Solenoid(Element):
    """A hard-edged solenoid, fringe fields at both ends included.

    With K = ``strength`` / 2, C = cos(K L) and S = sin(K L) it is a rotation by K L
    about the axis times a focusing of K**2 in both planes. A part of a solenoid gives
    the canonical momenta inside it, which are the kinetic ones plus those of the
    field; at its end the two are the same.

    Attributes:
        strength: Normalised field B / (B rho), in 1/m. Its sign is the sense of the
            rotation; the focusing does not depend on it.
    """

    strength: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(f"strength of {self._label()}", self.strength, "1/m")

    def _transverse(self, length: float) -> np.ndarray:
        half = self.strength / 2
        c, s = math.cos(half * length), math.sin(half * length)
        rotation = np.array([[c, s], [-s, c]])
        return np.kron(rotation, _plane(half**2, length))


def _plane(k: float, length: float) -> np.ndarray:
    """Return the 2 by 2 matrix of u'' = -k u over a length."""
    if k == 0:
        return np.array([[1.0, length], [0.0, 1.0]])
    w = math.sqrt(abs(k))
    if k > 0:
        c, s = math.cos(w * length), math.sin(w * length)
        return np.array([[c, s / w], [-w * s, c]])
    c, s = math.cosh(w * length), math.sinh(w * length)
    return np.array([[c, s / w], [w * s, c]])


def _two_planes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    result = np.zeros((4, 4))
    result[:2, :2] = x
    result[2:, 2:] = y
    return result


_KINDS: Mapping[str, type[Element]] = {
    kind.__name__: kind for kind in (Drift, Quadrupole, Solenoid)
}


def element(data: Mapping[str, Any]) -> Element:
    """Make an element from plain data, the inverse of :meth:`Element.as_dict`.

    Args:
        data: ``type`` (``Drift``, ``Quadrupole`` or ``Solenoid``) and the element's
            attributes.

    Returns:
        The element.

    Raises:
        ValueError: The type or an attribute is unknown, or a value is not allowed.

    Example:
        >>> element({"type": "Quadrupole", "length": 0.1, "k1": 7.0})
        Quadrupole(length=0.1, name='', k1=7.0)
    """
    settings = dict(data)
    kind = settings.pop("type", None)
    if kind not in _KINDS:
        known = ", ".join(_KINDS)
        raise ValueError(f"There is no beamline element {kind!r}. Known: {known}.")
    allowed = [field.name for field in dataclasses.fields(_KINDS[kind])]
    unknown = sorted(set(settings) - set(allowed))
    if unknown or "length" not in settings:
        wrong = f"does not know {unknown}" if unknown else "needs a length"
        raise ValueError(f"{kind} {wrong}. Its attributes: {', '.join(allowed)}.")
    return _KINDS[kind](**settings)


def chain_matrix(lattice: Iterable[Element], beta_gamma: float) -> np.ndarray:
    """Return the transfer matrix of several elements, the first one met first.

    Args:
        lattice: The elements, in the order in which the beam meets them.
        beta_gamma: p0 / (m c) of the reference particle.

    Example:
        >>> float(chain_matrix([Drift(1.0), Drift(0.5)], 10.0)[0, 1])
        1.5
    """
    result = np.eye(6)
    for one in lattice:
        result = one.matrix(beta_gamma) @ result
    return result


def injector_line(
    solenoid_strength: float = 3.0,
    quadrupole_k1: float = 15.0,
    drift_length: float = 1.0,
) -> list[Element]:
    """Return the example's beamline: a solenoid, a quadrupole triplet, a long drift.

    Args:
        solenoid_strength: B / (B rho) of the solenoid, in 1/m.
        quadrupole_k1: Gradient of the triplet's outer quadrupoles, in 1/m**2; the
            inner one, of twice their length, has the opposite sign.
        drift_length: The last drift, in m.

    Returns:
        The elements in the order in which the beam meets them.

    Raises:
        ValueError: ``drift_length`` is negative, or a value is not finite.
    """
    not_negative("drift_length", drift_length, "m")
    return [
        Drift(0.30, "D1"),
        Solenoid(0.20, "SOL", strength=solenoid_strength),
        Drift(0.60, "D2"),
        Quadrupole(0.10, "Q1", k1=quadrupole_k1),
        Drift(0.10, "D3"),
        Quadrupole(0.20, "Q2", k1=-quadrupole_k1),
        Drift(0.10, "D4"),
        Quadrupole(0.10, "Q3", k1=quadrupole_k1),
        Drift(drift_length, "D5"),
    ]


def positions(lattice: Sequence[Element]) -> list[tuple[float, Element]]:
    """Return each element with the position of its entrance, in m.

    Example:
        >>> [s for s, _ in positions([Drift(0.5), Drift(0.25), Drift(1.0)])]
        [0.0, 0.5, 0.75]
    """
    found, s = [], 0.0
    for one in lattice:
        found.append((s, one))
        s += one.length
    return found
