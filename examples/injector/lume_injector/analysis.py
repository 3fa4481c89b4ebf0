"""Sizes, emittances and Twiss parameters of a bunch.

All moments are central, weighted by charge, and taken over the living particles
only, with 1/N ("population") normalisation, so that sigma**2 = beta * emittance
holds to rounding. Momenta are the canonical ones, px and py; the slope-like
coordinate is px / p0 with p0 the bunch's mean momentum.
"""

import math
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd
from beamphysics import ParticleGroup
from scipy.constants import elementary_charge, epsilon_0, m_e, speed_of_light

from lume_injector._checks import not_negative, positive

Plane = Literal["x", "y"]
PLANES: tuple[Plane, Plane] = ("x", "y")

#: Status of a living particle in the openPMD beam physics extension.
ALIVE = 1


@dataclass(frozen=True)
class PlaneStatistics:
    """Second moments of a bunch in one transverse plane.

    Attributes:
        sigma: Rms size, in m.
        sigma_prime: Rms of px / p0, in rad.
        emit: Geometric rms emittance, in m rad.
        norm_emit: Normalised rms emittance, in m rad.
        beta: Twiss beta, in m.
        alpha: Twiss alpha.
        gamma: Twiss gamma, in 1/m.
    """

    sigma: float
    sigma_prime: float
    emit: float
    norm_emit: float
    beta: float
    alpha: float
    gamma: float

    def as_dict(self) -> dict[str, float]:
        """Return the figures by name."""
        return asdict(self)


def moments(
    position: np.ndarray, slope: np.ndarray, weight: np.ndarray, beta_gamma: float
) -> PlaneStatistics:
    """Compute one plane's statistics from the particles' coordinates.

    Args:
        position: x or y, in m.
        slope: px / p0 or py / p0.
        weight: Charge of each particle; only the proportions count.
        beta_gamma: p0 / (m c), which turns the emittance into the normalised one.

    Returns:
        The statistics. A bunch without emittance (one particle) has NaN for Twiss
        parameters.

    Example:
        >>> ring = np.linspace(0, 2 * np.pi, 8, endpoint=False)
        >>> found = moments(2e-3 * np.cos(ring), 1e-3 * np.sin(ring), np.ones(8), 10.0)
        >>> round(found.beta, 9), round(found.norm_emit * 1e6, 9)
        (2.0, 10.0)
    """
    part = weight / np.sum(weight)
    u = position - np.sum(part * position)
    v = slope - np.sum(part * slope)
    uu = float(np.sum(part * u * u))
    vv = float(np.sum(part * v * v))
    uv = float(np.sum(part * u * v))
    emit = math.sqrt(max(uu * vv - uv * uv, 0.0))
    beta, alpha, gamma = (
        (uu / emit, -uv / emit, vv / emit) if emit > 0 else (math.nan,) * 3
    )
    return PlaneStatistics(
        sigma=math.sqrt(uu),
        sigma_prime=math.sqrt(vv),
        emit=emit,
        norm_emit=emit * beta_gamma,
        beta=beta,
        alpha=alpha,
        gamma=gamma,
    )


def living(particles: ParticleGroup) -> ParticleGroup:
    """Return the living particles of a bunch.

    beamphysics' own statistics take in lost particles too; ours do not.

    Raises:
        ValueError: No particle is alive.
    """
    alive = particles.status == ALIVE
    if not alive.any():
        raise ValueError("The bunch holds no living particle: nothing can be analysed.")
    return particles if alive.all() else particles[alive]


def plane_statistics(particles: ParticleGroup, plane: Plane) -> PlaneStatistics:
    """Compute size, emittances and Twiss parameters of a bunch in one plane.

    The bunch's particles lie in one plane across the beamline (equal z), as
    :func:`lume_injector.lattice.transport` leaves them.

    Args:
        particles: The bunch.
        plane: ``"x"`` or ``"y"``.

    Returns:
        The statistics of the living particles, projected on that plane.

    Raises:
        ValueError: The plane is neither x nor y, or no particle is alive.

    Example:
        >>> from lume_injector.beam import gaussian_bunch
        >>> found = plane_statistics(gaussian_bunch(norm_emit_x=2e-6), "x")
        >>> round(found.norm_emit * 1e6, 9)
        2.0
    """
    if plane not in PLANES:
        raise ValueError(f"plane must be 'x' or 'y'; it is {plane!r}.")
    alive = living(particles)
    p0 = float(np.average(alive.p, weights=alive.weight))
    return moments(
        alive[plane], alive[f"p{plane}"] / p0, alive.weight, p0 / float(alive.mass)
    )


def peak_current(charge: float, sigma_t: float) -> float:
    """Return the peak current of a Gaussian bunch, in A.

    Args:
        charge: Charge, in C.
        sigma_t: Rms duration, in s.

    Example:
        >>> round(peak_current(100e-12, 3e-12), 2)
        13.3
    """
    return not_negative("charge", charge, "C") / (
        math.sqrt(2 * math.pi) * positive("sigma_t", sigma_t, "s")
    )


def laminarity(
    current: float, sigma: float, norm_emit: float, beta_gamma: float
) -> float:
    """Return how strong space charge is against emittance, rho.

    It is the ratio of the two defocusing terms of the rms envelope equation of a
    round beam, rho = I sigma**2 / (2 I_A beta gamma norm_emit**2), with the Alfven
    current I_A = 4 pi epsilon_0 m c**3 / e = 17 kA (L. Serafini and J. B. Rosenzweig,
    Phys. Rev. E 55 (1997) 7565). The beamline of this package has no space charge,
    which is fair where rho stays well below 1.

    Args:
        current: Peak current, in A.
        sigma: Rms size, in m.
        norm_emit: Normalised emittance, in m rad.
        beta_gamma: Mean momentum over m c.

    Example:
        >>> round(laminarity(1.33, 0.4e-3, 1e-6, 11.7), 2)
        0.53
    """
    alfven = 4 * math.pi * epsilon_0 * m_e * speed_of_light**3 / elementary_charge
    return float(current * sigma**2 / (2 * alfven * beta_gamma * norm_emit**2))


def analyse_line(
    envelope: pd.DataFrame, particles: ParticleGroup, plane: Plane, charge: float
) -> dict[str, float]:
    """Summarise a transport: the final bunch and the envelope of one plane.

    Args:
        envelope: The table that :func:`lume_injector.lattice.transport` returns.
        particles: The bunch at the end of the line.
        plane: ``"x"`` or ``"y"``.
        charge: Charge of the bunch at the start, in C.

    Returns:
        Figures by name: those of :class:`PlaneStatistics` at the end of the line,
        ``sigma_min`` and ``s_min`` (the smallest size after the start of the line,
        and where), ``sigma_max`` and ``s_max``, ``norm_emit_growth`` (last over
        first, less 1), ``transmission`` (living charge over ``charge``),
        ``peak_current`` in A and ``laminarity_max`` along the line.
    """
    final = plane_statistics(particles, plane)
    alive = living(particles)
    size = envelope[f"sigma_{plane}"].to_numpy()
    s = envelope["s"].to_numpy()
    emittance = envelope[f"norm_emit_{plane}"].to_numpy()
    smallest = 1 + int(np.argmin(size[1:])) if len(size) > 1 else 0
    largest = int(np.argmax(size))
    living_charge = float(np.sum(alive.weight))
    current = peak_current(living_charge, float(alive["sigma_t"]))
    beta_gamma = float(np.average(alive.p, weights=alive.weight) / alive.mass)
    strongest = max(
        laminarity(current, one, of, beta_gamma)
        for one, of in zip(size, emittance, strict=True)
    )
    return {
        **final.as_dict(),
        "sigma_min": float(size[smallest]),
        "s_min": float(s[smallest]),
        "sigma_max": float(size[largest]),
        "s_max": float(s[largest]),
        "norm_emit_growth": float(emittance[-1] / emittance[0] - 1.0),
        "transmission": living_charge / positive("charge", charge, "C"),
        "peak_current": current,
        "laminarity_max": float(strongest),
    }
