"""The transport of a bunch through a beamline."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from beamphysics import ParticleGroup
from scipy.constants import speed_of_light

from lume_injector._checks import at_least, positive
from lume_injector.analysis import ALIVE, PLANES, living, moments
from lume_injector.lattice import Element, positions

#: Status of a particle that hit the aperture. The openPMD beam physics extension
#: fixes 1 for alive and leaves any other number to the program.
LOST = 2


@dataclass(frozen=True)
class Reference:
    """The reference particle of a bunch: it carries the mean total energy.

    Attributes:
        energy: Total energy, in eV.
        rest_energy: Rest energy, in eV.
        time: When it crosses the start of the line, in s.
    """

    energy: float
    rest_energy: float
    time: float

    @property
    def momentum(self) -> float:
        """Momentum p0 c, in eV."""
        return math.sqrt(self.energy**2 - self.rest_energy**2)

    @property
    def beta(self) -> float:
        """Velocity over that of light."""
        return self.momentum / self.energy

    @property
    def beta_gamma(self) -> float:
        """Momentum over rest energy, p0 / (m c)."""
        return self.momentum / self.rest_energy

    @property
    def rigidity(self) -> float:
        """B rho = p0 / e, in T m: gradient is k1 * rigidity, field strength * it."""
        return float(self.momentum / speed_of_light)

    @classmethod
    def of(cls, particles: ParticleGroup) -> "Reference":
        """Return the reference particle of a bunch's living particles."""
        alive = living(particles)
        return cls(
            energy=float(np.average(alive.energy, weights=alive.weight)),
            rest_energy=float(alive.mass),
            time=float(np.average(alive.t, weights=alive.weight)),
        )


def transport(
    particles: ParticleGroup,
    lattice: Sequence[Element],
    steps: int = 20,
    aperture: float | None = None,
) -> tuple[ParticleGroup, pd.DataFrame]:
    """Carry a bunch through a beamline with linear maps.

    The map of each row is taken from the entrance of its element, so the bunch at the
    end does not depend on ``steps``. Magnetic fields do no work: each particle keeps
    its energy, and pz follows from it.

    Args:
        particles: The bunch. Living particles that do not share one z are first
            drifted, freely, to their mean z.
        lattice: The elements in the order in which the beam meets them.
        steps: Rows of the table per element, 1 or more, at equal distances.
        aperture: Radius of the beam pipe, in m; a particle found outside it at a row
            is lost there. No pipe if ``None``.

    Returns:
        The bunch at the end (lost particles keep the coordinates and the z at which
        they were lost, with status 2; ``particles`` itself is not changed), and a
        table with one row at the start and ``steps`` rows per element: ``s`` in m,
        ``element``, ``sigma_x``, ``sigma_y`` in m, ``norm_emit_x``, ``norm_emit_y``
        in m rad, ``beta_x``, ``beta_y`` in m, ``alpha_x``, ``alpha_y``,
        ``sigma_t`` in s, ``mean_energy`` in eV and ``n_alive``. Inside a solenoid the
        momenta are canonical. Emittances are projected: a solenoid conserves their
        four-dimensional product, and each of them for a round beam only.

    Raises:
        ValueError: ``steps`` or ``aperture`` is out of range, no particle is alive at
            the start, or the aperture stops all of them.

    Example:
        >>> from lume_injector.beam import gaussian_bunch
        >>> from lume_injector.lattice import Drift
        >>> final, table = transport(gaussian_bunch(), [Drift(1.0)], steps=4)
        >>> [round(s, 2) for s in table["s"]]
        [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    at_least("steps", steps, 1)
    radius = math.inf if aperture is None else positive("aperture", aperture, "m")
    final = particles.copy()
    index = np.flatnonzero(final.status == ALIVE)
    bunch = _on_one_plane(living(final))
    reference = Reference.of(bunch)
    z_start = float(bunch.z[0])
    entrance = _coordinates(bunch, reference)

    rows = [_row(0.0, "", entrance, bunch.weight, reference)]
    weight = bunch.weight
    for s_in, one in positions(lattice):
        for step in range(1, steps + 1):
            length = one.length * (step / steps) if step < steps else one.length
            here = _apply(one.matrix(reference.beta_gamma, length), entrance)
            inside = here[0] ** 2 + here[2] ** 2 <= radius**2
            if not inside.all():
                s = s_in + length
                _write(final, index[~inside], here[:, ~inside], reference, s, z_start)
                final.status[index[~inside]] = LOST
                if not inside.any():
                    raise ValueError(
                        f"The aperture of {radius:g} m stops all {len(bunch)} "
                        f"particles by s = {s:.3f} m ({one.name or type(one).__name__})"
                        ". Widen it, or focus the beam more."
                    )
                index, weight = index[inside], weight[inside]
                entrance, here = entrance[:, inside], here[:, inside]
            rows.append(_row(s_in + length, one.name, here, weight, reference))
        entrance = here
    _write(final, index, entrance, reference, float(rows[-1]["s"]), z_start)
    return final, pd.DataFrame(rows)


def _on_one_plane(bunch: ParticleGroup) -> ParticleGroup:
    if np.ptp(bunch.z) == 0:
        return bunch
    drifted = bunch.copy()
    drifted.drift_to_z()
    return drifted


def _coordinates(bunch: ParticleGroup, reference: Reference) -> np.ndarray:
    """Return the (6, n) canonical coordinates of particles on one plane."""
    p0 = reference.momentum
    return np.array(
        [
            bunch.x,
            bunch.px / p0,
            bunch.y,
            bunch.py / p0,
            -speed_of_light * (bunch.t - reference.time),
            (bunch.energy - reference.energy) / p0,
        ]
    )


def _apply(matrix: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """Multiply without BLAS, so that no thread count can change the last bit."""
    result = np.zeros_like(coordinates)
    for row, column in zip(*np.nonzero(matrix), strict=True):
        result[row] += matrix[row, column] * coordinates[column]
    return result


def _write(
    final: ParticleGroup,
    index: np.ndarray,
    coordinates: np.ndarray,
    reference: Reference,
    s: float,
    z_start: float,
) -> None:
    """Write canonical coordinates at ``s`` back into some particles of a bunch."""
    p0 = reference.momentum
    energy = reference.energy + p0 * coordinates[5]
    px, py = p0 * coordinates[1], p0 * coordinates[3]
    forward = energy**2 - reference.rest_energy**2 - px**2 - py**2
    if not (forward > 0).all():
        raise ValueError(
            f"By s = {s:.3f} m some particles do not move forward any more: the "
            "focusing is too strong for a linear map to hold."
        )
    crossing = reference.time + s / (reference.beta * speed_of_light)
    final.x[index], final.px[index] = coordinates[0], px
    final.y[index], final.py[index] = coordinates[2], py
    final.z[index], final.pz[index] = z_start + s, np.sqrt(forward)
    final.t[index] = crossing - coordinates[4] / speed_of_light


def _row(
    s: float,
    name: str,
    coordinates: np.ndarray,
    weight: np.ndarray,
    reference: Reference,
) -> dict[str, float | int | str]:
    x, y = (
        moments(
            coordinates[i], coordinates[i + 1], weight, reference.beta_gamma
        ).as_dict()
        for i in (0, 2)
    )
    part = weight / np.sum(weight)
    late = coordinates[4] - np.sum(part * coordinates[4])
    row: dict[str, float | int | str] = {"s": s, "element": name}
    for figure in ("sigma", "norm_emit", "beta", "alpha"):
        for plane, found in zip(PLANES, (x, y), strict=True):
            row[f"{figure}_{plane}"] = found[figure]
    row["sigma_t"] = math.sqrt(float(np.sum(part * late**2))) / speed_of_light
    row["mean_energy"] = reference.energy + reference.momentum * float(
        np.sum(part * coordinates[5])
    )
    row["n_alive"] = int(coordinates.shape[1])
    return row
