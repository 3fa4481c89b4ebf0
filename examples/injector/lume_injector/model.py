"""The injector as a model: settings in, outputs out, in process, without Prefect."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from lume_injector.analysis import PLANES, analyse_line
from lume_injector.beam import gaussian_bunch
from lume_injector.lattice import injector_line
from lume_injector.tracking import transport


class InjectorModel:
    """A photoinjector's beamline, from a Gaussian bunch to the end of the last drift.

    Attributes:
        defaults: Every setting's name and default: the arguments of
            :func:`~lume_injector.beam.gaussian_bunch`,
            :func:`~lume_injector.lattice.injector_line` and
            :func:`~lume_injector.tracking.transport`.

    Example:
        >>> outputs = InjectorModel().evaluate({"n_particle": 1000})
        >>> round(outputs["final_norm_emit_x"] * 1e6, 6), outputs["n_alive"]
        (1.0, 1000)
    """

    def __init__(self) -> None:
        self.defaults: dict[str, Any] = {
            **_defaults(gaussian_bunch),
            **_defaults(injector_line),
            **_defaults(transport),
        }

    def evaluate(self, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Make a bunch, transport it and analyse both planes.

        Args:
            settings: Values by name; what is not named keeps its default.

        Returns:
            What :func:`transport_outputs` returns, and ``analysis_x`` and
            ``analysis_y``, the figures of
            :func:`~lume_injector.analysis.analyse_line`. Equal settings give equal
            outputs, bit for bit.

        Raises:
            ValueError: A setting is unknown, or its value is out of range.
        """
        given = dict(settings or {})
        for name in given:
            if name not in self.defaults:
                near = difflib.get_close_matches(name, self.defaults, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                known = ", ".join(self.defaults)
                raise ValueError(f"There is no setting {name!r}.{hint} Known: {known}.")
        chosen = {**self.defaults, **given}

        def of(function: Callable[..., Any]) -> dict[str, Any]:
            return {name: chosen[name] for name in _defaults(function)}

        bunch = gaussian_bunch(**of(gaussian_bunch))
        final, envelope = transport(
            bunch, injector_line(**of(injector_line)), **of(transport)
        )
        analyses = {
            f"analysis_{plane}": analyse_line(envelope, final, plane, chosen["charge"])
            for plane in PLANES
        }
        return {**transport_outputs(envelope), **analyses}


def transport_outputs(envelope: pd.DataFrame) -> dict[str, Any]:
    """Return what is worth storing of a transport.

    Args:
        envelope: The table that :func:`~lume_injector.tracking.transport` returns.

    Returns:
        ``envelope`` itself; its columns ``s``, ``sigma_x`` and ``sigma_y`` as arrays
        in m; ``length`` in m; the last row as scalars ``final_sigma_x``,
        ``final_norm_emit_x``, ``final_beta_x``, ``final_alpha_x``, the same for y,
        ``final_sigma_t``; ``mean_energy`` in eV and ``n_alive``.
    """
    last = envelope.iloc[-1]
    names = [
        f"{figure}_{plane}"
        for figure in ("sigma", "norm_emit", "beta", "alpha")
        for plane in PLANES
    ]
    return {
        "envelope": envelope,
        **{name: envelope[name].to_numpy() for name in ("s", "sigma_x", "sigma_y")},
        "length": float(last["s"]),
        **{f"final_{name}": float(last[name]) for name in [*names, "sigma_t"]},
        "mean_energy": float(last["mean_energy"]),
        "n_alive": int(last["n_alive"]),
    }


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not parameter.empty
    }
