"""The Gantt plot: what is drawn, and that it stays small."""

from __future__ import annotations

import io
import pickle
from xml.etree import ElementTree as ET

import pytest
from PIL import Image

from prefect_lume.errors import NotFoundError
from prefect_lume.pipelines.gantt import gantt_png, plot_execution
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.status import PipelineTaskStatus as S
from prefect_lume.pipelines.timeline import BINS, MOST_LANES, read_timeline


@pytest.fixture
def runs(sample_runs):
    return sample_runs(MemoryPipelineResultsStorage())


def group_of(timeline, label):
    return next(group for group in timeline.groups if group.label == label)


def svg_texts(figure):
    """Return what a figure says, from its SVG."""
    import matplotlib as mpl

    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(file, format="svg")
    root = ET.fromstring(file.getvalue())
    return [
        "".join(e.itertext()) for e in root.iter("{http://www.w3.org/2000/svg}text")
    ]


def test_each_run_is_a_lane_of_waiting_and_running(runs):
    """A lane has a span for each state, in seconds since the run's start."""
    timeline = read_timeline(runs.storage, runs.chain())
    (lane,) = group_of(timeline, "generate").lanes
    spans = [(span.start, span.end, span.waiting) for span in lane.spans]
    assert spans == [
        (pytest.approx(0.1), pytest.approx(0.3), True),
        (pytest.approx(0.3), pytest.approx(1.8), False),
    ]
    assert timeline.end == pytest.approx(11.8)


def test_retries_are_seen(runs):
    """An attempt that was tried again is marked, and the wait between is a span."""
    timeline = read_timeline(runs.storage, runs.chain())
    (lane,) = group_of(timeline, "track").lanes
    assert [(s.waiting, s.repeated) for s in lane.spans] == [
        (True, False),
        (False, True),
        (True, False),
        (False, False),
    ]


def test_a_cached_run_has_no_running_time(runs):
    """What came from a cache is waiting, then nothing."""
    timeline = read_timeline(runs.storage, runs.chain())
    (lane,) = group_of(timeline, "plot").lanes
    assert lane.status is S.DONE
    assert all(s.waiting or s.end == s.start for s in lane.spans)


def test_subflows_are_groups_of_their_own(runs):
    """Below the parent come its subflows, each with its tasks."""
    parent = runs.flow("parent", [(0, "Running"), (60, "Completed")])
    runs.chain(5, parent_run_id=parent)
    runs.scan(20, points=3, parent_run_id=parent)
    timeline = read_timeline(runs.storage, parent)
    assert [(g.depth, g.is_head, g.label.split(" ")[0]) for g in timeline.groups] == [
        (0, True, "parent"),
        (1, True, "injector"),
        (2, False, "generate"),
        (2, False, "track"),
        (2, False, "plot"),
        (1, True, "scan"),
        (2, False, "prepare"),
        (2, False, "track"),
    ]


def test_subflows_that_call_each_other_end(runs):
    """Runs whose parents form a circle, which stored data may, are drawn once."""
    runs.flow("a", [(0, "Running")], run_id="a", parent_run_id="b")
    runs.flow("b", [(0, "Running")], run_id="b", parent_run_id="a")
    heads = list(read_timeline(runs.storage, "a", now=runs.at(9)).groups)
    assert len(heads) == 2


def test_many_subflows_are_one_group(runs):
    """Of more subflows than there is room for, only their own times are drawn."""
    parent = runs.flow("parent", [(0, "Running"), (60, "Completed")])
    for n in range(25):
        runs.flow("child", [(n, "Running"), (n + 1, "Completed")], parent_run_id=parent)
    timeline = read_timeline(runs.storage, parent)
    assert [len(group.lanes) for group in timeline.groups] == [1, 25]


def test_objects_are_groups_while_they_are_few(runs):
    """Few objects have their tasks below them; many are a lane each."""
    few = read_timeline(runs.storage, runs.mapped(objects=4), now=runs.at(20))
    assert [g.label for g in few.groups][1:3] == ['object 0 · {"phase": 0}', "measure"]
    many = read_timeline(runs.storage, runs.mapped(objects=20), now=runs.at(50))
    assert [len(g.lanes) for g in many.groups] == [1, 20]


def test_very_many_runs_are_an_area(runs):
    """Past a number of runs only is kept how many ran at once."""
    points = MOST_LANES + 50
    timeline = read_timeline(runs.storage, runs.scan(points=points))
    group = group_of(timeline, "track")
    assert (group.lanes, group.total) == ((), points)
    assert group.crowd is not None
    width = timeline.end / BINS
    busy = sum(map(sum, group.crowd.at_once.values())) * width
    # Each point takes 4 s, or 5 or 6, and the two that fail 4.
    expected = sum(4 if n in (3, 17) else 4 + n % 3 for n in range(points))
    assert busy == pytest.approx(expected, rel=1e-6)
    assert len(group.crowd.failed) == 2


def test_what_is_kept_does_not_grow_with_the_runs(runs):
    """The timeline of 8,000 runs is hardly larger than that of 1,000."""
    sizes = []
    for points in (1000, 8000):
        timeline = read_timeline(runs.storage, runs.scan(points=points))
        sizes.append(len(pickle.dumps(timeline)))
        assert len(timeline.groups) == 3
    assert sizes[1] < sizes[0] * 1.5


def test_what_still_runs_reaches_up_to_now(runs):
    """The bar of an open run ends now."""
    run = runs.flow("open", [(0, "Pending"), (1, "Running")])
    runs.task(run, "work", [[(2, "Running")]])
    timeline = read_timeline(runs.storage, run, now=runs.at(31))
    assert timeline.end == 30
    assert group_of(timeline, "work").lanes[0].spans[-1].end == 30


def test_a_run_that_never_started_is_drawn(runs):
    """A run that only waits has a plot, and so has one of which nothing is known."""
    run = runs.flow("waiting", [(0, "Pending")])
    plot_execution(runs.storage, run, now=runs.at(5))
    plot_execution(runs.storage, runs.flow("nothing", []), now=runs.at(5))


def test_the_plot_says_what_it_shows(runs):
    """Title, axis, labels and a legend of the statuses that are there."""
    run = runs.flow("$cost$ _x^2", [(0, "Pending"), (1, "Running"), (9, "Completed")])
    runs.task(run, "ta\nsk", [[(2, "Running"), (5, "Failed", "no")]])
    texts = svg_texts(plot_execution(runs.storage, run))
    assert "ta·sk" in texts
    assert any("$cost$ _x^2" in text for text in texts)
    assert "started 2026-01-31 12:00:01 UTC" in " ".join(texts)
    assert "seconds since the start" in texts
    assert "RUNTIME_ERROR" in texts
    assert "CANCELLED" not in texts


@pytest.mark.parametrize("points", [3, 40, 300, 2000])
def test_the_height_is_sensible(runs, points):
    """However many runs, the picture fits on a screen or two."""
    picture = gantt_png(runs.storage, runs.scan(points=points))
    with Image.open(io.BytesIO(picture)) as image:
        assert image.format == "PNG"
        assert 250 < image.height < 1200
        assert image.width > 1000


def test_every_status_can_be_told_without_colours(runs):
    """Statuses differ in hatching or sign, and failures from success in both."""
    from prefect_lume.pipelines.gantt import _LOOKS

    finals = [(hatch, sign) for s, (_, hatch, sign) in _LOOKS.items() if s.is_final]
    assert len(set(finals)) == len(finals)
    assert set(_LOOKS) == set(S)


def test_an_unknown_run_has_no_plot(runs):
    """A run that was not recorded is an error."""
    with pytest.raises(NotFoundError):
        plot_execution(runs.storage, "nothing")
