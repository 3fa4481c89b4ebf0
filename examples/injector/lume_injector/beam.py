"""Making a particle bunch, and its openPMD archive."""

import io

import h5py
import numpy as np
from beamphysics import ParticleGroup
from beamphysics.species import mass_of

from lume_injector._checks import at_least, not_negative, positive

#: Rest energy of the electron in eV, as beamphysics has it.
ELECTRON_REST_ENERGY = float(mass_of("electron"))

#: A sample of six coordinates needs more particles than coordinates to be whitened.
FEWEST_PARTICLES = 8

_LARGEST_ENERGY_SPREAD = 0.1


def gaussian_bunch(
    n_particle: int = 10_000,
    energy: float = 6e6,
    charge: float = 1e-12,
    sigma_x: float = 0.4e-3,
    sigma_y: float = 0.4e-3,
    norm_emit_x: float = 1e-6,
    norm_emit_y: float = 1e-6,
    sigma_t: float = 3e-12,
    sigma_energy_rel: float = 1e-3,
    seed: int = 1,
    *,
    exact_moments: bool = True,
) -> ParticleGroup:
    """Make an electron bunch at a waist, Gaussian in all six coordinates.

    The particles lie in the plane z = 0 and cross it at different times. At a waist
    position and momentum are uncorrelated, so the momentum spread follows from size
    and normalised emittance: sigma_px = m c * norm_emit_x / sigma_x.

    Args:
        n_particle: Number of macroparticles, 8 or more.
        energy: Mean total energy (rest energy included), in eV.
        charge: Charge of the bunch, in C; each particle carries an equal part.
        sigma_x: Rms size in x, in m.
        sigma_y: Rms size in y, in m.
        norm_emit_x: Normalised rms emittance in x, in m rad.
        norm_emit_y: Normalised rms emittance in y, in m rad.
        sigma_t: Rms duration, in s.
        sigma_energy_rel: Rms energy spread over mean energy, below 0.1.
        seed: Seed of the random numbers, 0 or above. Equal arguments give equal
            particles, bit for bit.
        exact_moments: Remove the sampling noise of the first and second moments
            ("quiet start"): means, sizes and emittances are then what was asked for,
            to rounding. Otherwise they scatter by about one over the root of
            ``n_particle``; only the means are still exact.

    Returns:
        The bunch, all particles alive.

    Raises:
        ValueError: An argument is outside its range.

    Example:
        >>> bunch = gaussian_bunch(n_particle=1000, sigma_x=0.5e-3)
        >>> [f"{bunch[name]:.6g}" for name in ("sigma_x", "mean_energy")]
        ['0.0005', '6e+06']
    """
    count = at_least("n_particle", n_particle, FEWEST_PARTICLES)
    rest = ELECTRON_REST_ENERGY
    if not (np.isfinite(energy) and energy > rest):
        raise ValueError(
            f"energy is the total energy in eV and must be above the electron's rest "
            f"energy, {rest:.0f} eV; it is {energy!r}."
        )
    spread = not_negative("sigma_energy_rel", sigma_energy_rel)
    if spread >= _LARGEST_ENERGY_SPREAD:
        raise ValueError(
            f"sigma_energy_rel must be below {_LARGEST_ENERGY_SPREAD}, since the "
            f"beamline is linear in the energy deviation; it is {sigma_energy_rel!r}."
        )
    sizes = [positive("sigma_x", sigma_x, "m"), positive("sigma_y", sigma_y, "m")]
    emittances = [
        positive("norm_emit_x", norm_emit_x, "m rad"),
        positive("norm_emit_y", norm_emit_y, "m rad"),
    ]
    sample = _normal_sample(count, at_least("seed", seed, 0), exact=exact_moments)
    px = sample[1] * (rest * emittances[0] / sizes[0])
    py = sample[3] * (rest * emittances[1] / sizes[1])
    total = energy * (1.0 + spread * sample[5])
    pz_squared = total**2 - rest**2 - px**2 - py**2
    if not np.all((pz_squared > 0) & (total > rest)):
        raise ValueError(
            "The bunch would hold particles that do not move forward: norm_emit_x / "
            "sigma_x, norm_emit_y / sigma_y or sigma_energy_rel is too large for the "
            f"energy {energy:.6g} eV."
        )
    return ParticleGroup(
        data={
            "x": sizes[0] * sample[0],
            "px": px,
            "y": sizes[1] * sample[2],
            "py": py,
            "z": np.zeros(count),
            "pz": np.sqrt(pz_squared),
            "t": positive("sigma_t", sigma_t, "s") * sample[4],
            "status": np.ones(count, dtype=int),
            "weight": np.full(count, positive("charge", charge, "C") / count),
            "species": "electron",
        }
    )


def _normal_sample(count: int, seed: int, *, exact: bool) -> np.ndarray:
    """Return 6 rows of standard normal numbers, mean zero, perhaps also whitened.

    Sums are numpy's own, not BLAS's, so that the last bit does not depend on the
    number of threads.
    """
    sample = np.random.default_rng(seed).standard_normal((6, count))
    sample -= sample.mean(axis=1, keepdims=True)
    if not exact:
        return sample
    covariance = np.array([[np.mean(a * b) for b in sample] for a in sample])
    whitening = np.linalg.inv(np.linalg.cholesky(covariance))
    white = np.zeros_like(sample)
    for row, column in zip(*np.nonzero(np.tril(whitening)), strict=True):
        white[row] += whitening[row, column] * sample[column]
    return white


def archive_bytes(particles: ParticleGroup) -> bytes:
    """Return a bunch as an openPMD HDF5 file, in memory.

    Equal particles give equal bytes: HDF5's time stamps are off.

    Args:
        particles: The bunch.

    Returns:
        The file's content.

    Example:
        >>> bunch = gaussian_bunch(n_particle=100)
        >>> archive_bytes(bunch) == archive_bytes(bunch)
        True
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", track_order=False) as file:
        particles.write(file)
    return buffer.getvalue()


def read_archive(file: h5py.File) -> ParticleGroup:
    """Return the bunch in an open openPMD HDF5 file.

    Args:
        file: The open file. All is read at once; it may be closed afterwards.

    Returns:
        The bunch.

    Example:
        >>> bunch = gaussian_bunch(n_particle=100)
        >>> with h5py.File(io.BytesIO(archive_bytes(bunch))) as file:
        ...     bool((read_archive(file).x == bunch.x).all())
        True
    """
    return ParticleGroup(h5=file)
