"""The figure of an analysis: envelope, beamline and phase space.

Figures are made through :class:`matplotlib.figure.Figure`, never pyplot, so that no
state is shared with the caller. matplotlib itself keeps some (one parser of formulas
for the whole process): a lock makes two analyses in threads take turns.
"""

import io
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from beamphysics import ParticleGroup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from scipy.ndimage import gaussian_filter

from lume_injector.analysis import Plane, living, plane_statistics
from lume_injector.lattice import Element, Quadrupole, Solenoid, positions

_COLOURS = {"x": "#1f5fa8", "y": "#d1495b"}
_SOLENOID, _FOCUSING, _DEFOCUSING = "#e9b44c", "#4f9d69", "#7d6b91"
_INK = "#333333"
_TITLE: dict[str, Any] = {"loc": "left", "fontsize": 11, "pad": 21}
_PHASE_SPACE_BINS = 150
_PHASE_SPACE_SMOOTHING = 4.0
_DRAWING = threading.Lock()


def analysis_figure(
    envelope: pd.DataFrame,
    lattice: Sequence[Element],
    particles: ParticleGroup,
    plane: Plane,
) -> Figure:
    """Draw the beam envelope above its beamline, and the final phase space.

    Args:
        envelope: The table that :func:`lume_injector.tracking.transport` returns.
        lattice: The elements that made it.
        particles: The bunch at the end of the line.
        plane: The plane of the phase space, ``"x"`` or ``"y"``, which is also the
            one drawn boldly in the envelope.

    Returns:
        The figure, 10 by 4.2 inches.
    """
    with _DRAWING:
        figure = Figure(figsize=(10.0, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subfigures(1, 2, width_ratios=(1.45, 1.0))
        top, bottom = left.subplots(
            2, 1, sharex=True, gridspec_kw={"height_ratios": (5.0, 1.0), "hspace": 0.04}
        )
        _draw_envelope(top, envelope, plane)
        _draw_lattice(bottom, lattice)
        _draw_phase_space(right.subplots(), particles, plane)
    return figure


def figure_png(figure: Figure, dpi: int = 150) -> bytes:
    """Return a figure as a PNG file, in memory; equal figures give equal bytes.

    Args:
        figure: The figure.
        dpi: Dots per inch.
    """
    buffer = io.BytesIO()
    with _DRAWING:
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def _draw_envelope(axes: Axes, envelope: pd.DataFrame, plane: Plane) -> None:
    for name, colour in _COLOURS.items():
        chosen = name == plane
        axes.plot(
            envelope["s"].to_numpy(),
            envelope[f"sigma_{name}"].to_numpy() * 1e3,
            color=colour,
            linewidth=2.2 if chosen else 1.4,
            linestyle="-" if chosen else (0, (5, 2)),
            label=rf"$\sigma_{name}$",
        )
    axes.set_ylim(bottom=0)
    axes.set_xlim(float(envelope["s"].iloc[0]), float(envelope["s"].iloc[-1]))
    axes.set_ylabel("rms size (mm)")
    axes.set_title("Beam envelope", **_TITLE)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        borderpad=0.0,
        borderaxespad=0.3,
        handlelength=2.6,
        fontsize=9,
        ncols=2,
        frameon=False,
    )
    axes.tick_params(labelbottom=False)
    _tidy(axes)


def _draw_lattice(axes: Axes, lattice: Sequence[Element]) -> None:
    axes.axhline(0.0, color=_INK, linewidth=0.8, zorder=0)
    for s, one in positions(lattice):
        block = _block(one)
        if block is None:
            continue
        low, high, colour = block
        axes.add_patch(
            Rectangle((s, low), one.length, high - low, fc=colour, ec=_INK, lw=0.8)
        )
        axes.annotate(
            one.name,
            (s + one.length / 2, low if low < 0 else 0.0),
            xytext=(0, -3),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=8,
            color=_INK,
        )
    axes.set_ylim(-2.4, 1.3)
    axes.set_yticks([])
    axes.set_xlabel("s (m)")
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)


def _block(one: Element) -> tuple[float, float, str] | None:
    """Return bottom, top and colour of an element's block: quadrupoles focus up."""
    if isinstance(one, Solenoid):
        return -1.0, 1.0, _SOLENOID
    if isinstance(one, Quadrupole):
        return (0.0, 1.0, _FOCUSING) if one.k1 >= 0 else (-1.0, 0.0, _DEFOCUSING)
    return None


def _draw_phase_space(axes: Axes, particles: ParticleGroup, plane: Plane) -> None:
    alive = living(particles)
    found = plane_statistics(alive, plane)
    p0 = float(np.average(alive.p, weights=alive.weight))
    u, v = (
        (values - np.average(values, weights=alive.weight)) * 1e3
        for values in (alive[plane], alive[f"p{plane}"] / p0)
    )
    order, density = _density(u, v)
    axes.scatter(u[order], v[order], c=density, s=4, cmap="viridis", linewidths=0)
    turn = np.linspace(0.0, 2 * np.pi, 181)
    axes.plot(
        found.sigma * np.cos(turn) * 1e3,
        -found.sigma / found.beta * (found.alpha * np.cos(turn) + np.sin(turn)) * 1e3,
        color=_COLOURS["y"],
        linewidth=2.0,
        path_effects=[withStroke(linewidth=4.0, foreground="white")],
        label="rms ellipse",
    )
    axes.set_xlabel(f"${plane}$ (mm)")
    axes.set_ylabel(f"$p_{plane}/p_0$ (mrad)")
    axes.set_title("Phase space at the end", **_TITLE)
    axes.text(
        0.0,
        1.015,
        rf"$\varepsilon_{{n,{plane}}} = {found.norm_emit * 1e6:.3f}$ mm mrad,   "
        rf"$\beta_{plane} = {found.beta:.2f}$ m,   "
        rf"$\alpha_{plane} = {found.alpha:+.2f}$",
        transform=axes.transAxes,
        ha="left",
        va="bottom",
        fontsize=9,
        color=_INK,
    )
    axes.legend(
        loc="lower right" if found.alpha <= 0 else "lower left",
        frameon=False,
        fontsize=9,
    )
    _tidy(axes)


def _density(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an order that draws dense places last, and the density in that order."""
    counts, u_edges, v_edges = np.histogram2d(u, v, bins=_PHASE_SPACE_BINS)
    smooth = gaussian_filter(counts, sigma=_PHASE_SPACE_SMOOTHING)
    last = _PHASE_SPACE_BINS - 1
    row = np.clip(np.searchsorted(u_edges, u, side="right") - 1, 0, last)
    column = np.clip(np.searchsorted(v_edges, v, side="right") - 1, 0, last)
    density = smooth[row, column]
    order = np.argsort(density, kind="stable")
    return order, density[order]


def _tidy(axes: Axes) -> None:
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)
