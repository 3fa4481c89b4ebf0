"""The composer: a checked flow-of-flows becomes a Prefect flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect_lume.composer.facade import FlowOfFlows, Subflow

__all__ = ["FlowOfFlows", "Subflow"]


def __getattr__(name: str) -> Any:
    # Late: a worker imports `composer.remote`, which needs little of this.
    if name in __all__:
        from prefect_lume.composer import facade

        return getattr(facade, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
