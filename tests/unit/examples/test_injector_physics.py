"""The example's physics, against theory, closed forms and beamphysics."""

import hashlib
import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import yaml
from lume_injector.analysis import (
    analyse_line,
    laminarity,
    peak_current,
    plane_statistics,
)
from lume_injector.beam import archive_bytes, gaussian_bunch, read_archive
from lume_injector.lattice import (
    SYMPLECTIC_FORM,
    Drift,
    Quadrupole,
    Solenoid,
    chain_matrix,
    element,
    injector_line,
    positions,
)
from lume_injector.model import InjectorModel
from lume_injector.plotting import analysis_figure, figure_png
from lume_injector.tracking import LOST, Reference, transport
from scipy.linalg import expm

BETA_GAMMA = 11.7
ELEMENTS = [
    Drift(0.7),
    Drift(0.0),
    Quadrupole(0.2, k1=15.0),
    Quadrupole(0.2, k1=-15.0),
    Quadrupole(0.2, k1=0.0),
    Solenoid(0.3, strength=4.0),
    Solenoid(0.3, strength=-4.0),
    Solenoid(0.3, strength=0.0),
]


@pytest.fixture(scope="module")
def bunch():
    """A bunch of 5,000 particles with exact moments."""
    return gaussian_bunch(n_particle=5000)


def coordinates(particles, reference):
    """Canonical coordinates at the reference time, computed independently."""
    p0 = reference.momentum
    energy = np.sqrt(
        particles.px**2 + particles.py**2 + particles.pz**2 + particles.mass**2
    )
    return np.array(
        [
            particles.x,
            particles.px / p0,
            particles.y,
            particles.py / p0,
            -299792458.0 * (particles.t - np.mean(particles.t)),
            (energy - reference.energy) / p0,
        ]
    )


# --- the bunch -----------------------------------------------------------------------


def test_a_bunch_has_exactly_the_moments_that_were_asked_for():
    """Sizes, emittances, energy, duration and charge are the arguments, to rounding."""
    found = gaussian_bunch(
        n_particle=2000,
        energy=8e6,
        charge=3e-12,
        sigma_x=0.3e-3,
        sigma_y=0.7e-3,
        norm_emit_x=0.5e-6,
        norm_emit_y=2e-6,
        sigma_t=2e-12,
        sigma_energy_rel=5e-4,
    )
    x, y = plane_statistics(found, "x"), plane_statistics(found, "y")
    assert x.sigma == pytest.approx(0.3e-3, rel=1e-12)
    assert y.sigma == pytest.approx(0.7e-3, rel=1e-12)
    assert x.norm_emit == pytest.approx(0.5e-6, rel=1e-12)
    assert y.norm_emit == pytest.approx(2e-6, rel=1e-12)
    assert x.alpha == pytest.approx(0.0, abs=1e-12)
    assert found["mean_energy"] == pytest.approx(8e6, rel=1e-12)
    assert found["sigma_energy"] == pytest.approx(8e6 * 5e-4, rel=1e-9)
    assert found["sigma_t"] == pytest.approx(2e-12, rel=1e-12)
    assert found.charge == pytest.approx(3e-12, rel=1e-12)
    assert found.n_alive == 2000


def test_a_sampled_bunch_scatters_as_its_number_of_particles_says():
    """Without exact moments the size is off by about 1/sqrt(2N), and not exact."""
    count = 20_000
    off = [
        gaussian_bunch(count, seed=seed, exact_moments=False)["sigma_x"] / 0.4e-3 - 1
        for seed in range(20)
    ]
    assert np.std(off) == pytest.approx(1 / np.sqrt(2 * count), rel=0.6)
    assert abs(np.mean(off)) < 5 / np.sqrt(2 * count * 20)


def test_our_statistics_are_those_of_beamphysics(bunch):
    """Sizes agree; beamphysics' covariances divide by N - 1, ours by N."""
    final, _ = transport(bunch, injector_line(), steps=1)
    sample = len(final) / (len(final) - 1)
    for plane in ("x", "y"):
        ours = plane_statistics(final, plane)
        theirs = final.twiss(plane)
        assert ours.sigma == pytest.approx(final[f"sigma_{plane}"], rel=1e-12)
        assert ours.norm_emit * sample == pytest.approx(
            final[f"norm_emit_{plane}"], rel=1e-10
        )
        assert ours.beta == pytest.approx(theirs[f"beta_{plane}"], rel=1e-6)
        assert ours.alpha == pytest.approx(theirs[f"alpha_{plane}"], rel=1e-6)
        assert ours.gamma == pytest.approx(theirs[f"gamma_{plane}"], rel=1e-6)


# --- matrices ------------------------------------------------------------------------


@pytest.mark.parametrize("one", ELEMENTS, ids=repr)
@pytest.mark.parametrize("beta_gamma", [0.5, 11.7, 1000.0])
def test_every_matrix_is_symplectic(one, beta_gamma):
    """M.T J M = J holds at any energy, in six dimensions."""
    m = one.matrix(beta_gamma)
    assert m.T @ SYMPLECTIC_FORM @ m == pytest.approx(SYMPLECTIC_FORM, abs=1e-13)


def test_a_chain_of_elements_is_symplectic():
    """The product of all elements is symplectic too, its determinant 1."""
    m = chain_matrix(ELEMENTS, BETA_GAMMA)
    assert m.T @ SYMPLECTIC_FORM @ m == pytest.approx(SYMPLECTIC_FORM, abs=1e-12)
    assert np.linalg.det(m) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("one", ELEMENTS, ids=repr)
def test_two_halves_make_a_whole(one):
    """The matrix of an element is the product of those of its parts."""
    part = one.matrix(BETA_GAMMA, one.length / 3)
    rest = one.matrix(BETA_GAMMA, one.length * 2 / 3)
    assert rest @ part == pytest.approx(one.matrix(BETA_GAMMA), abs=1e-13)


@pytest.mark.parametrize("one", ELEMENTS, ids=repr)
def test_a_matrix_solves_its_hamiltonian(one):
    """Each matrix is exp(L J H) of the element's quadratic Hamiltonian."""
    h = np.diag([0.0, 1.0, 0.0, 1.0, 0.0, 1.0 / BETA_GAMMA**2])
    if isinstance(one, Quadrupole):
        h[0, 0], h[2, 2] = one.k1, -one.k1
    if isinstance(one, Solenoid):
        half = one.strength / 2
        # ((px + K y)^2 + (py - K x)^2) / 2
        h[0, 0] = h[2, 2] = half**2
        h[1, 2] = h[2, 1] = half
        h[3, 0] = h[0, 3] = -half
    expected = expm(one.length * SYMPLECTIC_FORM @ h)
    assert one.matrix(BETA_GAMMA) == pytest.approx(expected, abs=1e-12)


def test_a_quadrupole_is_the_textbook_matrix():
    """Cosine and sine in the focusing plane, hyperbolic ones in the other."""
    w, length = np.sqrt(15.0), 0.2
    m = Quadrupole(length, k1=15.0).matrix(BETA_GAMMA)
    f = w * length
    focusing = [[np.cos(f), np.sin(f) / w], [-w * np.sin(f), np.cos(f)]]
    defocusing = [[np.cosh(f), np.sinh(f) / w], [w * np.sinh(f), np.cosh(f)]]
    assert m[:2, :2] == pytest.approx(np.array(focusing))
    assert m[2:4, 2:4] == pytest.approx(np.array(defocusing))
    assert not m[:2, 2:4].any()


def test_a_short_quadrupole_is_a_thin_lens():
    """At fixed k1 L the matrix tends to a kick of -k1 L, with an error of order L."""
    strength = 1.5
    thin = np.eye(6)
    thin[1, 0], thin[3, 2] = -strength, strength
    errors = [
        np.abs(Quadrupole(length, k1=strength / length).matrix(BETA_GAMMA) - thin).max()
        for length in (1e-3, 1e-4, 1e-5)
    ]
    assert errors[0] < 2e-3
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.01)
    assert errors[1] / errors[2] == pytest.approx(10, rel=0.01)


def test_a_thin_fodo_cell_has_the_textbook_phase_advance():
    """In a thin-lens FODO cell sin(mu / 2) = L / (4 f)."""
    short, half, focal = 1e-5, 1.0, 0.8
    k1 = 1 / (focal * short)
    cell = [
        Quadrupole(short, k1=k1),
        Drift(half),
        Quadrupole(short, k1=-k1),
        Drift(half),
    ]
    m = chain_matrix(cell, BETA_GAMMA)
    mu_x = np.arccos((m[0, 0] + m[1, 1]) / 2)
    mu_y = np.arccos((m[2, 2] + m[3, 3]) / 2)
    assert np.sin(mu_x / 2) == pytest.approx(2 * half / (4 * focal), rel=1e-4)
    assert mu_y == pytest.approx(mu_x, rel=1e-9)


@pytest.mark.parametrize("strength", [4.0, -4.0])
def test_a_solenoid_is_a_helix_between_two_edge_kicks(strength):
    """It equals the closed form of the motion in a uniform field with hard edges."""
    length = 0.3
    theta = strength * length
    c, s = np.cos(theta), np.sin(theta)
    # Kinetic slopes turn by theta; x'' = strength * y', y'' = -strength * x'.
    helix = np.array(
        [
            [1, s / strength, 0, (1 - c) / strength],
            [0, c, 0, s],
            [0, -(1 - c) / strength, 1, s / strength],
            [0, -s, 0, c],
        ]
    )
    enter = np.eye(4)
    enter[1, 2], enter[3, 0] = strength / 2, -strength / 2
    expected = np.linalg.inv(enter) @ helix @ enter
    found = Solenoid(length, strength=strength).matrix(BETA_GAMMA)[:4, :4]
    assert found == pytest.approx(expected, abs=1e-14)


def test_a_solenoid_rotates_by_half_its_strength_and_focuses_both_planes():
    """A short one is a rotation by B L / (2 B rho) and a lens 1/f = (B/2 B rho)^2 L."""
    strength, length = 5.0, 1e-3
    m = Solenoid(length, strength=strength).matrix(BETA_GAMMA)
    angle = strength * length / 2
    assert np.arctan2(m[0, 2], m[0, 0]) == pytest.approx(angle, rel=1e-9)
    rotation = np.array([[m[0, 0], m[0, 2]], [m[2, 0], m[2, 2]]])
    power = np.array([[m[1, 0], m[1, 2]], [m[3, 0], m[3, 2]]])
    lens = -power @ np.linalg.inv(rotation)
    assert lens == pytest.approx((strength / 2) ** 2 * length * np.eye(2), rel=1e-5)
    opposite = Solenoid(length, strength=-strength).matrix(BETA_GAMMA)
    assert opposite[1, 0] == pytest.approx(m[1, 0])
    assert opposite[0, 2] == pytest.approx(-m[0, 2])


# --- transport -----------------------------------------------------------------------


def test_a_waist_grows_in_a_drift_as_theory_says(bunch):
    """sigma(s)^2 = sigma0^2 + (emittance / sigma0)^2 s^2, at every row."""
    _, table = transport(bunch, [Drift(3.0)], steps=12)
    start = plane_statistics(bunch, "x")
    reference = Reference.of(bunch)
    slope = start.norm_emit / reference.beta_gamma / start.sigma
    expected = np.sqrt(start.sigma**2 + (slope * table["s"]) ** 2)
    assert table["sigma_x"].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-12)
    assert table["sigma_x"].iloc[-1] > 1.5 * start.sigma
    beta0 = start.sigma**2 / (start.norm_emit / reference.beta_gamma)
    assert table["beta_x"].to_numpy() == pytest.approx(
        (beta0 + table["s"] ** 2 / beta0).to_numpy(), rel=1e-9
    )
    assert table["alpha_x"].to_numpy() == pytest.approx(
        (-table["s"] / beta0).to_numpy(), rel=1e-9, abs=1e-12
    )


def test_a_drift_agrees_with_exact_kinematics(bunch):
    """Positions and arrival times are those of beamphysics, but for second orders."""
    final, _ = transport(bunch, [Drift(2.0)], steps=1)
    exact = bunch.copy()
    exact.drift_to_z(2.0)
    assert np.abs(final.x - exact.x).max() < 2e-2 * exact.x.std()
    assert final["sigma_x"] == pytest.approx(exact["sigma_x"], rel=1e-4)
    assert final["mean_t"] == pytest.approx(exact["mean_t"], rel=1e-6)
    # Arrival against energy, L / (beta gamma)^2: with beta = 1 it would be off by 1 %.
    slope = np.polyfit(bunch.energy, exact.t - bunch.t, 1)[0]
    linear = np.polyfit(bunch.energy, final.t - bunch.t, 1)[0]
    assert linear == pytest.approx(slope, rel=2e-3)


def test_second_moments_go_as_the_matrix_says(bunch):
    """The final covariance is M Sigma M.T in all six coordinates."""
    line = injector_line()
    final, _ = transport(bunch, line, steps=3)
    reference = Reference.of(bunch)
    m = chain_matrix(line, reference.beta_gamma)
    before, after = coordinates(bunch, reference), coordinates(final, reference)
    scale = np.sqrt(np.diag(np.cov(after)))
    expected = m @ np.cov(before) @ m.T
    assert np.abs((np.cov(after) - expected) / np.outer(scale, scale)).max() < 1e-7


def test_normalised_emittance_is_conserved(bunch):
    """A round beam keeps both emittances to rounding at every row of the line."""
    _, table = transport(bunch, injector_line(), steps=25)
    for plane in ("x", "y"):
        drift = table[f"norm_emit_{plane}"] / table[f"norm_emit_{plane}"].iloc[0] - 1
        assert drift.abs().max() < 1e-12
    assert len(table) == 1 + 25 * 9


def test_a_solenoid_mixes_the_planes_of_a_flat_beam():
    """Projected emittances grow, the four-dimensional one is conserved."""
    flat = gaussian_bunch(4000, norm_emit_x=4e-6, norm_emit_y=0.5e-6)
    final, table = transport(flat, [Solenoid(0.4, strength=4.0)], steps=4)
    assert table["norm_emit_y"].iloc[-1] > 1.5 * table["norm_emit_y"].iloc[0]
    names = ("x", "px", "y", "py")
    before, after = np.linalg.det(flat.cov(*names)), np.linalg.det(final.cov(*names))
    assert after == pytest.approx(before, rel=1e-9)


def test_energy_and_charge_of_every_particle_are_conserved(bunch):
    """Magnets do no work: energies are equal to rounding, charges exactly."""
    final, table = transport(bunch, injector_line(), steps=2)
    assert final.energy == pytest.approx(bunch.energy, rel=1e-14)
    assert np.array_equal(final.weight, bunch.weight)
    assert (table["n_alive"] == len(bunch)).all()
    assert table["mean_energy"].to_numpy() == pytest.approx(6e6, rel=1e-12)
    assert np.ptp(final.z) == 0
    assert final.z[0] == pytest.approx(sum(one.length for one in injector_line()))


def test_the_bunch_that_is_transported_is_not_changed(bunch):
    """Transport works on a copy."""
    before = archive_bytes(bunch)
    transport(bunch, injector_line(), steps=1, aperture=1e-3)
    assert archive_bytes(bunch) == before


def test_the_final_bunch_does_not_depend_on_the_steps(bunch):
    """Rows only look at the bunch: one or twenty of them leave the same bytes."""
    once, _ = transport(bunch, injector_line(), steps=1)
    often, _ = transport(bunch, injector_line(), steps=20)
    assert archive_bytes(once) == archive_bytes(often)


def test_a_snapshot_in_time_is_drifted_to_one_plane_first(bunch):
    """Particles at unequal z are transported from their mean z."""
    snapshot = bunch.copy()
    snapshot.drift_to_t(0.0)
    assert np.ptp(snapshot.z) > 0
    final, _ = transport(snapshot, [Drift(1.0)], steps=1)
    assert np.ptp(final.z) == 0
    assert final["sigma_x"] == pytest.approx(
        transport(bunch, [Drift(1.0)], steps=1)[0]["sigma_x"], rel=1e-5
    )


def test_an_aperture_stops_what_a_gaussian_beam_has_outside_it():
    """Of a round Gaussian beam 1 - exp(-r^2 / 2 sigma^2) pass; the rest is marked."""
    beam = gaussian_bunch(50_000, sigma_x=1e-3, sigma_y=1e-3)
    final, table = transport(beam, [Drift(1e-6)], steps=1, aperture=1.5e-3)
    passing = table["n_alive"].iloc[-1] / 50_000
    assert passing == pytest.approx(1 - np.exp(-(1.5**2) / 2), abs=4 * 0.002)
    lost = final.status == LOST
    assert lost.sum() == 50_000 - table["n_alive"].iloc[-1]
    assert (np.hypot(final.x, final.y)[~lost] <= 1.5e-3).all()
    assert table["sigma_x"].iloc[-1] < table["sigma_x"].iloc[0]
    figures = analyse_line(table, final, "x", beam.charge)
    assert figures["transmission"] == pytest.approx(passing, rel=1e-9)


def test_lost_particles_stay_where_they_were_lost():
    """Their z is that of the row at which they hit, and they are never revived."""
    beam = gaussian_bunch(5000, norm_emit_x=20e-6, norm_emit_y=20e-6)
    final, table = transport(beam, [Drift(4.0)], steps=8, aperture=3e-3)
    lost = final[final.status == LOST]
    assert 0 < len(lost) < 5000
    assert set(np.round(lost.z, 9)) <= set(np.round(table["s"], 9))
    assert len(np.unique(lost.z)) > 2
    assert (np.diff(table["n_alive"]) <= 0).all()
    again, _ = transport(final, [Drift(1.0)], steps=1)
    assert np.array_equal(again[final.status == LOST].z, lost.z)


# --- determinism ---------------------------------------------------------------------


def test_equal_arguments_give_equal_bytes_in_another_process():
    """The final archive is the same, byte for byte, also with another thread count."""
    program = (
        "import hashlib\n"
        "from lume_injector.beam import archive_bytes, gaussian_bunch\n"
        "from lume_injector.lattice import injector_line\n"
        "from lume_injector.tracking import transport\n"
        "final, _ = transport(gaussian_bunch(20_000), injector_line())\n"
        "print(hashlib.sha256(archive_bytes(final)).hexdigest())\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    other = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    final, _ = transport(gaussian_bunch(20_000), injector_line())
    assert other.stdout.strip() == hashlib.sha256(archive_bytes(final)).hexdigest()


def test_another_seed_gives_another_bunch():
    """The seed counts, and only the seed."""
    first, second = gaussian_bunch(100, seed=1), gaussian_bunch(100, seed=2)
    assert not np.array_equal(first.x, second.x)
    np.random.default_rng(0).random()
    np.random.seed(5)
    assert np.array_equal(first.x, gaussian_bunch(100, seed=1).x)


def test_an_archive_is_read_back_bit_for_bit(bunch):
    """All coordinates, weights and statuses come back as they were written."""
    with h5py.File(io.BytesIO(archive_bytes(bunch)), "r") as file:
        assert file.attrs["openPMD"] == b"2.0.0"
        found = read_archive(file)
    for name in ("x", "px", "y", "py", "z", "pz", "t", "weight", "status"):
        assert np.array_equal(found[name], bunch[name])
    assert found.species == "electron"


# --- wrong input ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_particle": 0}, "n_particle must be a whole number, 8 or above; it is 0"),
        ({"n_particle": 10.5}, "n_particle must be a whole number"),
        ({"energy": 0.4e6}, "above the electron's rest energy, 510999 eV"),
        ({"energy": float("nan")}, "rest energy"),
        ({"charge": -1e-12}, "charge must be above 0"),
        ({"sigma_x": 0.0}, "sigma_x must be above 0"),
        ({"sigma_t": float("inf")}, "sigma_t must be above 0"),
        ({"norm_emit_y": -1e-6}, "norm_emit_y must be above 0"),
        ({"sigma_energy_rel": 0.5}, "sigma_energy_rel must be below 0.1"),
        ({"norm_emit_x": 1.0}, "do not move forward"),
        ({"seed": -1}, "seed must be a whole number, 0 or above"),
    ],
)
def test_a_wrong_bunch_is_refused_by_name(arguments, message):
    """The error names the argument, what is allowed and what was given."""
    with pytest.raises(ValueError, match=message):
        gaussian_bunch(**arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Drift(-1.0, "D1"), "length of Drift 'D1' must be 0 or above"),
        (lambda: Quadrupole(0.1, k1=float("nan")), "k1 of Quadrupole must be a finite"),
        (lambda: Solenoid(0.1, strength=float("inf")), "strength of Solenoid"),
        (lambda: element({"type": "Sextupole", "length": 1}), "Known: Drift, Quadr"),
        (lambda: element({"type": "Drift", "length": 1, "k1": 2}), "does not know"),
        (lambda: element({"type": "Drift"}), "needs a length"),
        (lambda: injector_line(drift_length=-0.5), "drift_length must be 0 or above"),
    ],
)
def test_a_wrong_element_is_refused_by_name(make, message):
    """The error names the element, its attribute and what is allowed."""
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_arguments_of_a_transport_are_refused(bunch):
    """Steps, aperture, a bunch that is lost and one that is dead are named."""
    with pytest.raises(ValueError, match="steps must be a whole number"):
        transport(bunch, [Drift(1.0)], steps=0)
    with pytest.raises(ValueError, match="aperture must be above 0"):
        transport(bunch, [Drift(1.0)], aperture=0.0)
    with pytest.raises(ValueError, match=r"stops all 5000 particles by s = 0\.050 m"):
        transport(bunch, [Drift(1.0, "D1")], aperture=1e-9)
    with pytest.raises(ValueError, match="do not move forward"):
        transport(bunch, [Quadrupole(3.0, k1=30.0)])
    dead = bunch.copy()
    dead.status[:] = LOST
    with pytest.raises(ValueError, match="no living particle"):
        transport(dead, [Drift(1.0)])
    with pytest.raises(ValueError, match="plane must be 'x' or 'y'"):
        plane_statistics(bunch, "z")


def test_elements_survive_plain_data():
    """What a stored result holds of a lattice makes the same lattice again."""
    assert [element(one.as_dict()) for one in injector_line()] == injector_line()
    entrances = [s for s, _ in positions(injector_line())]
    assert entrances[:3] == pytest.approx([0.0, 0.3, 0.5])


# --- figures, plot and model ---------------------------------------------------------


def test_current_and_laminarity_are_the_known_formulas():
    """1 pC in 1 ps rms is 0.4 A; rho falls with the square of the emittance."""
    assert peak_current(1e-12, 1e-12) == pytest.approx(0.3989, rel=1e-3)
    one = laminarity(17045.0 * 2 * 10, 1e-3, 1e-3, 10.0)
    assert one == pytest.approx(1.0, rel=1e-3)
    assert laminarity(1.0, 1e-3, 2e-6, 10) == pytest.approx(
        laminarity(1.0, 1e-3, 1e-6, 10) / 4
    )


def test_the_default_beam_is_one_for_which_space_charge_may_be_left_out():
    """The example is honest: its laminarity stays far below 1 all along the line."""
    for figures in (InjectorModel().evaluate()[f"analysis_{p}"] for p in "xy"):
        assert 0 < figures["laminarity_max"] < 0.1


def test_an_analysis_finds_the_waist_of_a_lens(bunch):
    """The smallest size is found, and where; emittance growth is nil."""
    line = [Quadrupole(0.1, k1=15.0), Drift(2.0)]
    final, table = transport(bunch, line, steps=200)
    found = analyse_line(table, final, "x", bunch.charge)
    m = chain_matrix(line[:1], Reference.of(bunch).beta_gamma)[:2, :2]
    sigma = m @ np.cov(bunch.x, bunch.px / Reference.of(bunch).momentum) @ m.T
    waist = 0.1 - sigma[0, 1] / sigma[1, 1]
    assert found["s_min"] == pytest.approx(waist, abs=0.011)
    assert found["norm_emit_growth"] == pytest.approx(0.0, abs=1e-12)
    assert found["sigma"] == pytest.approx(table["sigma_x"].iloc[-1], rel=1e-12)


def test_the_figure_shows_envelope_lattice_and_phase_space(bunch):
    """Its curves are the table's columns, in mm; its PNG is the same every time."""
    line = injector_line()
    final, table = transport(bunch, line)
    figure = analysis_figure(table, line, final, "y")
    envelope, lattice, phase_space = figure.axes
    assert envelope.lines[0].get_ydata() == pytest.approx(table["sigma_x"] * 1e3)
    assert envelope.lines[1].get_ydata() == pytest.approx(table["sigma_y"] * 1e3)
    assert [text.get_text() for text in lattice.texts] == ["SOL", "Q1", "Q2", "Q3"]
    assert phase_space.get_xlabel() == "$y$ (mm)"
    assert len(phase_space.collections[0].get_offsets()) == len(final)
    ellipse = phase_space.lines[0].get_xydata()
    assert ellipse[:, 0].max() == pytest.approx(final["sigma_y"] * 1e3, rel=1e-3)
    png = figure_png(figure)
    assert png.startswith(b"\x89PNG")
    assert png == figure_png(analysis_figure(table, line, final, "y"))


def test_figures_drawn_in_two_threads_are_the_same_as_alone(bunch):
    """Two analyses at one position may draw at the same time."""
    line = injector_line()
    final, table = transport(bunch, line)

    def draw(plane):
        return figure_png(analysis_figure(table, line, final, plane), dpi=60)

    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(draw, "xyxyxyxy"))
    assert drawn == [draw("x"), draw("y")] * 4


def test_the_model_is_the_three_steps_in_one():
    """Its outputs are those of making, transporting and analysing by hand."""
    settings = {"n_particle": 1000, "quadrupole_k1": 12.0, "steps": 5, "seed": 3}
    found = InjectorModel().evaluate(settings)
    start = gaussian_bunch(1000, seed=3)
    final, table = transport(start, injector_line(quadrupole_k1=12.0), steps=5)
    assert found["envelope"].equals(table)
    assert found["final_norm_emit_x"] == table["norm_emit_x"].iloc[-1]
    assert found["n_alive"] == 1000
    assert found["analysis_y"] == analyse_line(table, final, "y", 1e-12)
    assert found["analysis_y"]["norm_emit"] == pytest.approx(
        found["final_norm_emit_y"], rel=1e-12
    )


def test_the_model_names_an_unknown_setting():
    """It says what was wrong and which name was probably meant."""
    with pytest.raises(
        ValueError, match=r"'n_particles'\. Did you mean 'n_particle'\?"
    ):
        InjectorModel().evaluate({"n_particles": 10})


def test_importing_the_package_loads_nothing_heavy(injector_folder):
    """`import lume_injector` loads neither numpy nor Prefect nor matplotlib."""
    program = (
        "import sys, lume_injector, lume_injector._image\n"
        "print(sorted({'numpy', 'prefect', 'pandas', 'matplotlib'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=injector_folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


# --- the flows -----------------------------------------------------------------------


def test_the_flows_have_the_defaults_of_the_physics():
    """A flow that is run with nothing set does what the model does with nothing set."""
    from lume_injector import flow

    defaults = InjectorModel().defaults
    for one in (flow.generate, flow.transport):
        schema = one.parameters.model_dump()["properties"]
        found = {
            name: field["default"]
            for name, field in schema.items()
            if "default" in field and name != "aperture"
        }
        assert found == {name: defaults[name] for name in found}
        assert all(field["description"] for field in schema.values())


def test_the_flow_of_flows_names_flows_tasks_and_parameters_that_exist(injector_folder):
    """Every subflow, parameter and parent in injector.yaml is in the flow module."""
    from lume_injector import flow

    spec = yaml.safe_load((injector_folder / "injector.yaml").read_text())
    source = (injector_folder / "lume_injector" / "flow.py").read_text()
    subflows = spec["composing_flows"]
    at = {one["name"]: one["position"] for one in subflows}
    assert at == {"generate": 1, "transport": 2, "analyse_x": 3, "analyse_y": 3}
    kinds = set()
    for one in subflows:
        found = getattr(flow, one.get("flow_name", one["name"]))
        known = set(found.parameters.model_dump()["properties"])
        mapped = one.get("mapped_parameters", {})
        assert set(mapped) | set(one.get("parameters", {})) <= known
        for mapping in mapped.values():
            assert at[mapping["parent_flow_name"]] < one["position"]
            assert f'name="{mapping["parent_task_name"]}"' in source
            kinds.add(mapping["map_type"])
    assert kinds == {"file", "db", "raw"}
