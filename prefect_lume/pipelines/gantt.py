"""A Gantt plot of an execution: what waited and ran when, and how it ended.

Statuses differ by colour, by hatching and by the sign at the end of a bar, so that they
can be told apart without seeing colours.
"""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from prefect_lume._optional import require
from prefect_lume.errors import clip
from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.status import PipelineTaskStatus
from prefect_lume.pipelines.timeline import (
    BINS,
    Crowd,
    Group,
    Lane,
    Span,
    Timeline,
    read_timeline,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_S = PipelineTaskStatus
#: Status → (colour, hatching, sign at the end). Colours after Okabe and Ito.
_LOOKS: Final = {
    _S.DONE: ("#009E73", "", ""),
    _S.RUNNING: ("#56B4E9", "", ">"),
    _S.RUNTIME_ERROR: ("#D55E00", "xx", "X"),
    _S.CONFIG_ERROR: ("#CC79A7", "..", "X"),
    _S.VALIDATION_ERROR: ("#CC79A7", "++", "X"),
    _S.CANCELLED: ("#B8A800", "\\\\", "s"),
    _S.PENDING: ("#999999", "", ""),
}
_WAITING: Final = "#D8D8D8"
_REPEATED: Final = "#F2B37E"
_WIDTH: Final = 11.0
#: Inches of a lane with a label, and of a group of lanes without.
_ROW: Final = 0.27
_LEAST_BAND: Final = 1.0
_MOST_BAND: Final = 3.2
_THIN: Final = 0.07
_CROWD: Final = 1.3
_GAP: Final = 0.1
_MOST_HEIGHT: Final = 50.0
#: Groups of more lanes have one label for all.
_LABELLED: Final = 12
_LONGEST: Final = 44
#: The least share of the width that a bar takes, to be seen.
_VISIBLE: Final = 0.002
#: The share of the width that waiting before the start may take.
_BEFORE: Final = 0.04


def plot_execution(
    storage: PipelineStorage, run_id: str, *, now: datetime | None = None
) -> Figure:
    """Return a Gantt plot of an execution with its tasks and subflows.

    One bar for each task run, grouped by task; a task with more than
    :data:`~prefect_lume.pipelines.timeline.MOST_LANES` runs is one area that shows how
    many ran at once. Waiting is a thin grey bar; an attempt that was tried again is
    paler than the one that counts.

    Args:
        storage: The storage that has it.
        run_id: The execution's id.
        now: The time up to which what still runs has been running.

    Returns:
        A matplotlib figure that belongs to no window; ``savefig`` writes it.

    Raises:
        NotFoundError: There is no such run.
        MissingDependencyError: matplotlib is not installed (extra ``demo``).
    """
    require("matplotlib", "A plot of a run")
    return plot_timeline(read_timeline(storage, run_id, now=now))


def gantt_png(storage: PipelineStorage, run_id: str) -> bytes:
    """Return the plot of :func:`plot_execution` as a PNG file's content.

    Raises:
        NotFoundError: There is no such run.
        MissingDependencyError: matplotlib is not installed (extra ``demo``).
    """
    file = io.BytesIO()
    plot_execution(storage, run_id).savefig(file, format="png", dpi=110)
    return file.getvalue()


def plot_timeline(timeline: Timeline) -> Figure:
    """Return the plot of a timeline.

    Raises:
        MissingDependencyError: matplotlib is not installed (extra ``demo``).
    """
    require("matplotlib", "A plot of a run")
    from matplotlib.figure import Figure

    heights = [_height(group) for group in timeline.groups]
    content = sum(heights) + _GAP * len(heights)
    scale = min(1.0, _MOST_HEIGHT / content)
    figure = Figure(figsize=(_WIDTH, content * scale + 1.7), layout="constrained")
    axes = figure.subplots()
    drawing = _Drawing(axes, timeline)
    top = 0.0
    for group, height in zip(timeline.groups, heights, strict=True):
        drawing.group(group, top, height)
        top += height + _GAP
    drawing.finish(top)
    _title(axes, timeline)
    _legend(figure, drawing)
    return figure


def _height(group: Group) -> float:
    if group.crowd is not None:
        return _CROWD
    if len(group.lanes) <= _LABELLED:
        return _ROW * len(group.lanes)
    return min(_MOST_BAND, max(_LEAST_BAND, _THIN * len(group.lanes)))


class _Drawing:
    """The bars of one plot; positions are in inches from the top."""

    def __init__(self, axes: Axes, timeline: Timeline) -> None:
        self.axes = axes
        self.end = timeline.end
        self.statuses: set[PipelineTaskStatus] = set()
        self.has_waiting = self.has_repeated = self.has_superseded = False
        self.labels: list[tuple[float, str, bool]] = []
        spans = [s for g in timeline.groups for lane in g.lanes for s in lane.spans]
        first = min((span.start for span in spans), default=0.0)
        self.first = max(first, -_BEFORE * self.end) if first < 0 else 0.0
        self.least = _VISIBLE * self.end

    def group(self, group: Group, top: float, height: float) -> None:
        """Draw a group into its band."""
        if group.is_head:
            self.axes.axhspan(
                top - _GAP / 2, top + height + _GAP / 2, color="#F1F1F4", zorder=0
            )
        if group.crowd is not None:
            self._label(
                f"{group.label} ({group.total:,} runs)", group, top + height / 2
            )
            self._crowd(group.crowd, top, height)
            return
        step = height / max(1, len(group.lanes))
        labelled = len(group.lanes) <= _LABELLED
        if not labelled:
            self._label(f"{group.label} ({group.total})", group, top + height / 2)
            for edge in (top - _GAP / 2, top + height + _GAP / 2):
                self._rule(edge)
        for place, lane in enumerate(group.lanes):
            middle = top + (place + 0.5) * step
            if labelled:
                self._label(lane.label, group, middle)
            self._lane(lane, middle, step, is_head=group.is_head)

    def _rule(self, y: float) -> None:
        self.axes.axhline(y, color="#BBBBBB", linewidth=0.6, zorder=1)

    def _label(self, text: str, group: Group, middle: float) -> None:
        shown = "".join(c if c.isprintable() else "·" for c in text)
        indent = "    " * max(0, group.depth - 1)
        self.labels.append((middle, indent + clip(shown, _LONGEST), group.is_head))

    def _lane(self, lane: Lane, middle: float, step: float, *, is_head: bool) -> None:
        share = 0.42 if is_head else 0.74 if step > _THIN else 0.9
        for span in lane.spans:
            if span.end > self.first:
                self._span(span, lane, middle, step * share, step)
        colour, _, sign = _LOOKS[lane.status]
        ends = max((span.end for span in lane.spans), default=0.0)
        if step < _THIN:
            if lane.status.is_failed and not lane.superseded:
                self._mark(sign, ends, middle, colour, size=4)
        elif _was_cached(lane):
            self._mark("D", ends, middle, colour)
        elif sign and not lane.superseded:
            self._mark(sign, ends, middle, colour)

    def _mark(
        self, sign: str, x: float, y: float, colour: str, size: float = 7
    ) -> None:
        self.axes.plot(
            [x],
            [y],
            marker=sign,
            markersize=size,
            color=colour,
            markeredgecolor="white",
            markeredgewidth=0.7,
            clip_on=False,
            zorder=5,
        )

    def _span(
        self, span: Span, lane: Lane, middle: float, height: float, step: float
    ) -> None:
        if not span.waiting and _was_cached(lane):
            return
        start = max(span.start, self.first)
        width = max(span.end - start, 0.0 if span.waiting else self.least)
        colour, hatch, _ = _LOOKS[lane.status]
        options: dict[str, Any] = {"facecolor": colour, "zorder": 3}
        if span.waiting:
            self.has_waiting = True
            height, options = height * 0.45, {"facecolor": _WAITING, "zorder": 2}
        elif span.repeated:
            self.has_repeated = True
            options |= {"facecolor": _REPEATED, "hatch": "////"}
        else:
            self.statuses.add(lane.status)
            options["hatch"] = hatch
        if lane.superseded:
            self.has_superseded = True
            options["alpha"] = 0.45
        if step < _THIN:
            options["hatch"] = ""
        self.axes.broken_barh(
            [(start, width)],
            (middle - height / 2, height),
            edgecolor="white",
            linewidth=0.0 if step < _THIN or width < 4 * self.least else 0.6,
            **options,
        )

    def _crowd(self, crowd: Crowd, top: float, height: float) -> None:
        """Draw how many ran at once, from the band's lower edge up."""
        stacked = [0.0] * BINS
        order = [s for s in _LOOKS if s in crowd.at_once]
        peak = max(
            map(sum, zip(*(crowd.at_once[s] for s in order), strict=True)), default=1.0
        )
        bottom, room = top + height, height * 0.86
        edges = [self.end * n / BINS for n in range(BINS + 1)]
        for status in order:
            self.statuses.add(status)
            colour, hatch, _ = _LOOKS[status]
            lower = stacked
            stacked = [a + b for a, b in zip(lower, crowd.at_once[status], strict=True)]
            low, high = (
                [bottom - room * value / (peak or 1.0) for value in (*part, part[-1])]
                for part in (lower, stacked)
            )
            self.axes.fill_between(
                edges,
                low,
                high,
                step="post",
                facecolor=colour,
                edgecolor="white",
                hatch=hatch,
                linewidth=0.0,
                zorder=3,
            )
        self.axes.plot(
            crowd.failed,
            [top + height * 0.06] * len(crowd.failed),
            marker="X",
            linestyle="",
            markersize=5,
            color=_LOOKS[_S.RUNTIME_ERROR][0],
            markeredgecolor="white",
            markeredgewidth=0.5,
            zorder=5,
        )
        self._rule(bottom)
        self.axes.text(
            self.end * 1.004,
            bottom - room,
            f"peak {peak:.3g}",
            fontsize=7,
            color="#555555",
            va="center",
        )

    def finish(self, bottom: float) -> None:
        """Set axes, grid and labels."""
        axes = self.axes
        axes.set_ylim(bottom, -_GAP)
        axes.set_xlim(self.first, self.end * 1.015)
        axes.set_yticks([middle for middle, _, _ in self.labels])
        ticks = axes.set_yticklabels([text for _, text, _ in self.labels], fontsize=9)
        for tick, (_, _, is_head) in zip(ticks, self.labels, strict=True):
            tick.set_parse_math(False)
            tick.set_fontweight("bold" if is_head else "normal")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="#E4E4E4", linewidth=0.7)
        axes.set_axisbelow(True)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)


def _was_cached(lane: Lane) -> bool:
    """Tell whether it is done without having run."""
    ran = any(span.end > span.start for span in lane.spans if not span.waiting)
    return lane.status is _S.DONE and not ran


def _title(axes: Axes, timeline: Timeline) -> None:
    row = timeline.execution
    started = timeline.start.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    names = [row.pipeline_id or row.id[:8], row.run_name or row.id[:8]]
    title = " · ".join(clip(name, 60) for name in names)
    text = axes.set_title(
        f"{title} · {row.status}\nstarted {started} UTC",
        loc="left",
        fontsize=11,
    )
    text.set_parse_math(False)
    left_out = ", further subflows left out" if timeline.left_out else ""
    axes.set_xlabel(f"seconds since the start{left_out}", fontsize=9)
    axes.tick_params(axis="x", labelsize=9)
    axes.xaxis.set_major_formatter("{x:,g}")


def _legend(figure: Figure, drawing: _Drawing) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="white", label=status.value)
        for status, (colour, hatch, _) in _LOOKS.items()
        if status in drawing.statuses
    ]
    if drawing.has_waiting:
        handles.append(Patch(facecolor=_WAITING, label="waiting"))
    if drawing.has_repeated:
        patch = Patch(
            facecolor=_REPEATED, hatch="////", edgecolor="white", label="tried again"
        )
        handles.append(patch)
    if drawing.has_superseded:
        colour = _LOOKS[_S.RUNTIME_ERROR][0]
        handles.append(Patch(facecolor=colour, alpha=0.45, label="superseded (paler)"))
    if handles:
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=min(7, len(handles)),
            frameon=False,
            fontsize=9,
        )
