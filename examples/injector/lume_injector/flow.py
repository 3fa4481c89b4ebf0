"""The Prefect flows: make a bunch, transport it, analyse it.

Each flow is thin: the physics is in the other modules, files and results go through
prefect-lume's tasks. A flow-of-flows maps from the tasks named here. A flow depends
on nothing but its parameters, so equal parameters give equal files and results.
"""

from typing import Annotated, Any, Literal

from beamphysics import ParticleGroup
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from lume_injector.analysis import analyse_line
from lume_injector.beam import (
    FEWEST_PARTICLES,
    archive_bytes,
    gaussian_bunch,
    read_archive,
)
from lume_injector.lattice import element, injector_line
from lume_injector.model import transport_outputs
from lume_injector.plotting import analysis_figure, figure_png
from lume_injector.tracking import Reference
from lume_injector.tracking import transport as transport_bunch
from prefect_lume.results import FileReference, ImpactResult, ResultReference
from prefect_lume.tasks import load_file, load_result, save_file, store_result

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]

# One task may be run more than once in a flow: its name says which run is meant.
save_archive = save_file.with_options(name="save_archive")
load_bunch = load_file.with_options(name="load_bunch")
save_final_archive = save_file.with_options(name="save_final_archive")
store_transport = store_result.with_options(name="store_transport")
load_transport = load_result.with_options(name="load_transport")
load_final_bunch = load_file.with_options(name="load_final_bunch")
save_plot = save_file.with_options(name="save_plot")
store_analysis = store_result.with_options(name="store_analysis")


@task(name="bunch_charge", cache_policy=NO_CACHE)
def bunch_charge(particles: ParticleGroup) -> float:
    """Return the charge of a bunch, in C."""
    return float(particles.charge)


@flow(name="generate")
def generate(
    n_particle: Annotated[int, Field(ge=FEWEST_PARTICLES, le=5_000_000)] = 10_000,
    energy: Positive = 6e6,
    charge: Positive = 1e-12,
    sigma_x: Positive = 0.4e-3,
    sigma_y: Positive = 0.4e-3,
    norm_emit_x: Positive = 1e-6,
    norm_emit_y: Positive = 1e-6,
    sigma_t: Positive = 3e-12,
    sigma_energy_rel: Annotated[float, Field(ge=0, lt=0.1)] = 1e-3,
    seed: Annotated[int, Field(ge=0)] = 1,
) -> FileReference:
    """Make a Gaussian electron bunch at a waist and save its openPMD archive.

    Args:
        n_particle: Number of macroparticles.
        energy: Mean total energy, rest energy included, in eV.
        charge: Charge of the bunch, in C.
        sigma_x: Rms size in x, in m.
        sigma_y: Rms size in y, in m.
        norm_emit_x: Normalised rms emittance in x, in m rad.
        norm_emit_y: Normalised rms emittance in y, in m rad.
        sigma_t: Rms duration, in s.
        sigma_energy_rel: Rms energy spread over mean energy.
        seed: Seed of the random numbers.

    Returns:
        The reference of the archive, an openPMD HDF5 file (task ``save_archive``).
        The task ``bunch_charge`` returns the charge in C.
    """
    bunch = gaussian_bunch(
        n_particle=n_particle,
        energy=energy,
        charge=charge,
        sigma_x=sigma_x,
        sigma_y=sigma_y,
        norm_emit_x=norm_emit_x,
        norm_emit_y=norm_emit_y,
        sigma_t=sigma_t,
        sigma_energy_rel=sigma_energy_rel,
        seed=seed,
    )
    bunch_charge(bunch)
    return save_archive(archive_bytes(bunch), "bunch.h5", format="hdf5")


@flow(name="transport")
def transport(
    archive: FileReference,
    solenoid_strength: Finite = 3.0,
    quadrupole_k1: Finite = 15.0,
    drift_length: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0,
    steps: Annotated[int, Field(ge=1, le=1000)] = 20,
    aperture: Positive = 0.02,
) -> ResultReference:
    """Carry a bunch through the injector's beamline and store what comes out.

    Args:
        archive: The bunch at the start, an openPMD HDF5 file.
        solenoid_strength: Normalised field of the solenoid, B / (B rho), in 1/m.
        quadrupole_k1: Gradient of the triplet's outer quadrupoles, in 1/m**2.
        drift_length: Length of the last drift, in m.
        steps: Rows of the envelope table per element.
        aperture: Radius of the beam pipe, in m.

    Returns:
        The reference of an ``ImpactResult`` (task ``store_transport``): the archive
        of the final bunch, settings and lattice as inputs, envelope and final figures
        as outputs.
    """
    file: Any = load_bunch(archive)
    with file:
        bunch = read_archive(file)
    line = injector_line(solenoid_strength, quadrupole_k1, drift_length)
    final, envelope = transport_bunch(bunch, line, steps, aperture)
    reference = Reference.of(bunch)
    return store_transport(
        inputs={
            "archive_sha256": archive.sha256,
            "solenoid_strength": solenoid_strength,
            "quadrupole_k1": quadrupole_k1,
            "drift_length": drift_length,
            "steps": steps,
            "aperture": aperture,
            "lattice": [one.as_dict() for one in line],
        },
        outputs={
            **transport_outputs(envelope),
            "solenoid_field": solenoid_strength * reference.rigidity,
            "quadrupole_gradient": quadrupole_k1 * reference.rigidity,
        },
        result_type=ImpactResult,
        archive=save_final_archive(archive_bytes(final), "final.h5", format="hdf5"),
    )


@flow(name="analyse")
def analyse(
    result: ResultReference,
    charge: Positive,
    final_norm_emit: Positive,
    plane: Literal["x", "y"] = "x",
) -> ResultReference:
    """Analyse one plane of a stored transport: emittance, Twiss, sizes and a plot.

    Args:
        result: The stored transport.
        charge: Charge of the bunch at the start, in C.
        final_norm_emit: Normalised emittance that the transport stored, in m rad.
        plane: The transverse plane.

    Returns:
        The reference of a ``Result`` (task ``store_analysis``): the figures and the
        reference of the plot as outputs.
    """
    document: Any = load_transport(result)
    file: Any = load_final_bunch(document.archive)
    with file:
        final = read_archive(file)
    envelope = document.outputs["envelope"]
    line = [element(data) for data in document.inputs["lattice"]]
    figures = analyse_line(envelope, final, plane, charge)
    plot = figure_png(analysis_figure(envelope, line, final, plane))
    return store_analysis(
        inputs={
            "transport": result.model_dump(mode="json"),
            "charge": charge,
            "final_norm_emit": final_norm_emit,
            "plane": plane,
        },
        outputs={
            **figures,
            "archive_deviation": figures["norm_emit"] / final_norm_emit - 1.0,
            "plot": save_plot(plot, f"phase-space-{plane}.png", format="image"),
        },
    )
