"""A flow that is recorded, to run as it is, to serve or to deploy."""

from __future__ import annotations

from prefect import flow, task

from prefect_lume import recorded


@task
def track(charge: float) -> float:
    """Return the emittance behind the injector, for a bunch charge in coulomb."""
    return 1e-6 * (charge / 1e-9) ** 0.5


@task
def smallest(emittances: list[float]) -> float:
    """Return the smallest of the emittances, in metres."""
    return min(emittances)


@recorded
@flow
def scan(charges: list[float] | None = None) -> float:
    """Track a scan of charges and return the smallest emittance."""
    tracked = track.map(charges or [1e-9, 2e-9, 4e-9])
    return smallest(tracked.result())


if __name__ == "__main__":
    scan()
