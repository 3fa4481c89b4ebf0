"""`prefect-lume runs list`, `show`, `digest` and `cleanup`, as a person uses them."""

from __future__ import annotations

import json
import threading

import click
import pytest
from click.testing import CliRunner

from prefect_lume.cli._main import cli
from prefect_lume.config import configure, open_context
from prefect_lume.pipelines.rows import Kind


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Each test has an embedded folder of its own, with its database."""
    monkeypatch.setenv("PREFECT_LUME_HOME", str(tmp_path / "lume"))
    monkeypatch.setenv("COLUMNS", "200")
    configure()


@pytest.fixture
def runs(sample_runs):
    return sample_runs(open_context().pipeline_storage())


def run(*arguments, **more):
    return CliRunner().invoke(cli, ["runs", *map(str, arguments)], **more)


def found(*arguments):
    outcome = run(*arguments, "--json")
    assert outcome.exit_code == 0, outcome.output
    return json.loads(outcome.stdout)


class TestList:
    def test_runs_are_listed_newest_first(self, runs):
        """A row has id, time, pipeline, name, status and duration."""
        runs.chain()
        scan = runs.scan(100)
        outcome = run("list")
        header, first, second = outcome.stdout.splitlines()
        assert header.split() == [
            *("run", "started", "(UTC)", "pipeline", "name", "status", "duration")
        ]
        assert first.split() == [
            scan[:8],
            *("2026-01-31", "12:01:40", "scan", "scan-2", "✗", "RUNTIME_ERROR"),
            *("(Completed)", "38.8", "s"),
        ]
        assert "injector-1" in second
        assert "✓ DONE " in second

    def test_objects_are_counted(self, runs):
        """A pipeline over objects says how many are done, failed and open."""
        runs.chain()
        runs.mapped(100, objects=5)
        _, mapped, plain = run("list").stdout.splitlines()
        assert "3✓ 1✗ 1●" in mapped
        assert "✗" not in plain
        assert found("list")[0]["objects"] == {
            "PENDING": 0,
            "RUNNING": 1,
            "DONE": 3,
            "CONFIG_ERROR": 0,
            "VALIDATION_ERROR": 0,
            "RUNTIME_ERROR": 1,
            "CANCELLED": 0,
            "superseded": 0,
            "total": 5,
        }

    @pytest.mark.parametrize(
        ("options", "names"),
        [
            (["--pipeline", "scan"], ["scan-2"]),
            (["--status", "done"], ["injector-3", "injector-1"]),
            (
                ["--status", "DONE", "--status", "runtime_error"],
                ["injector-3", "scan-2", "injector-1"],
            ),
            (["--since", "2026-01-31T12:01:00"], ["injector-3", "scan-2"]),
            (["--since", "2026-01-31T13:01:00+01:00"], ["injector-3", "scan-2"]),
            (["--before", "2026-01-31T12:01"], ["injector-1"]),
            (["--project", "linac"], ["injector-3"]),
            (["--deployment", "7"], ["injector-3"]),
            (["--since", "2026-02-01"], []),
            (["--limit", "1"], ["injector-3"]),
        ],
    )
    def test_options_choose(self, runs, options, names):
        """Each option leaves the runs that it asks for."""
        runs.chain()
        runs.scan(100)
        runs.chain(200, project_name="linac", deployment_id=7)
        rows = found("list", *options)
        assert [row["run_name"] for row in rows] == names

    def test_it_says_that_there_are_more(self, runs):
        """A limit that cuts says so; one that fits does not."""
        runs.chain()
        runs.chain(100)
        assert "there are more" in run("list", "--limit", 1).stderr
        assert run("list", "--limit", 2).stderr == ""

    def test_times_have_their_zone(self, runs):
        """JSON times are ISO 8601 with a zone, durations seconds."""
        runs.chain()
        (row,) = found("list")
        assert row["started"] == "2026-01-31T12:00:00.200000+00:00"
        assert row["seconds"] == pytest.approx(11.8)
        assert row["status"] == "DONE"

    def test_nothing_recorded_tells_how(self):
        """An empty storage is no error: it says how runs come into it."""
        for command in ("list", "digest"):
            outcome = run(command)
            assert (outcome.exit_code, outcome.stdout) == (0, "")
            assert "@recorded" in outcome.stderr
            assert "runs record" in outcome.stderr
        assert found("list") == []
        assert found("digest") == {}

    def test_nothing_that_matches_says_why(self, runs):
        """Where nothing matches, known pipelines are named."""
        runs.chain()
        assert "'injector'" in run("list", "--pipeline", "injektor").stderr
        assert "No run matches status" in run("list", "--status", "CANCELLED").stderr
        assert "that time" in run("list", "--since", "2027-01-01").stderr

    @pytest.mark.parametrize("text", ["yesteray", "2026-13-01", "5", "", "2h ago"])
    def test_a_wrong_time_teaches(self, text):
        """What is no time is refused with examples of times."""
        outcome = run("list", "--since", text)
        assert outcome.exit_code == 2
        assert "2026-01-31T12:00" in outcome.stderr
        assert "7d" in outcome.stderr

    @pytest.mark.parametrize("text", ["now", "today", "yesterday", "2h", "1w2d"])
    def test_times_may_be_relative(self, runs, text):
        """Words and how long ago are times."""
        runs.chain()
        assert found("list", "--before", text)
        assert found("list", "--since", text) == []

    @pytest.mark.parametrize("width", ["80", "100"])
    def test_lines_fit_the_width(self, runs, monkeypatch, width):
        """On a narrow terminal names are cut; ids, times and statuses are not."""
        monkeypatch.setenv("COLUMNS", width)
        long = runs.flow("pipeline-" * 9, [(0, "Running")], name="name-" * 20)
        runs.mapped(50)
        for line in run("list").stdout.splitlines():
            assert len(line) <= int(width)
        assert long[:8] in run("list").stdout
        assert "01-31 12:00:00" in run("list").stdout

    def test_stored_text_cannot_steer_the_terminal(self, runs):
        """Control characters and markup of names are shown as text."""
        odd = "[red]\x1b[2J\nname"
        one = runs.flow(odd, [(0, "Running"), (1, "Failed", odd)], name=odd)
        runs.task(one, odd, [[(0, "Running"), (1, "Failed", odd)]])
        for arguments in (["list"], ["show", one], ["show", one, "--history"]):
            shown = run(*arguments).output
            assert "\x1b" not in shown
            assert r"[red]\x1b[2J" in shown
        assert "\x1b" not in run("show", "nothing").output


class TestShow:
    def test_a_run_is_a_tree(self, runs):
        """Tasks with status, duration and message; runs folded, failures listed."""
        one = runs.scan(points=30)
        lines = run("show", one).stdout.splitlines()
        assert lines[0].startswith("scan · scan-1  ✗ RUNTIME_ERROR (Completed)  38.8 s")
        assert lines[1] == "├── prepare  ✓ DONE  2.5 s"
        assert lines[2].endswith("28 done, 2 failed")
        assert '[3] {"k": 0.3}  ✗ RUNTIME_ERROR  4.0 s  ValueError: the' in lines[3]
        assert "[17]" in lines[4]
        assert "… 28 more runs: 28 done (--all lists them)" in lines[5]

    def test_all_lists_all(self, runs):
        """--all lists every run of every task."""
        outcome = run("show", runs.scan(points=30), "--all").stdout
        assert "more runs" not in outcome
        assert all(f"[{n}]" in outcome for n in range(30))

    def test_states_of_prefect_that_say_more_are_shown(self, runs):
        """Cached and Crashed stand beside the status, Completed does not."""
        outcome = run("show", runs.chain()).stdout
        assert "✓ DONE (Cached)" in outcome
        assert "Completed" not in outcome
        crashed = runs.flow("p", [(0, "Running"), (1, "Crashed", "killed\nsignal 9")])
        assert "✗ RUNTIME_ERROR (Crashed)" in run("show", crashed).stdout
        assert "killed" in run("show", crashed).stdout

    def test_superseded_attempts_are_marked(self, runs):
        """A failed run of an attempt that was repeated says so."""
        outcome = run("show", runs.retried()).stdout
        assert "1 done, 1 superseded" in outcome
        assert "✗ RUNTIME_ERROR superseded" in outcome

    def test_objects_have_their_own_branches(self, runs):
        """Of many objects the failed and running are shown, with what they are."""
        outcome = run("show", runs.mapped(objects=14)).stdout
        assert '[2] {"phase": 20}  ✗ RUNTIME_ERROR' in outcome
        assert '[13] {"phase": 130}  ● RUNNING' in outcome
        assert "… 12 more objects: 12 done (--all lists them)" in outcome

    def test_links_say_what_it_belongs_to(self, runs):
        """Below the tree: parameters, Prefect deployment, parent, subflows."""
        parent = runs.flow(
            "parent",
            [(0, "Running")],
            project_name="linac",
            input_data={"charge": 1e-9},
            prefect_deployment_id="pd-1",
        )
        child = runs.chain(1, parent_run_id=parent)
        above, below = run("show", parent).stdout, run("show", child).stdout
        assert "charge=1e-09" in above
        assert "pd-1" in above
        assert f"{child[:8]}  injector" in above
        assert f"{parent[:8]}  parent" in below
        assert "none: this code is not registered" in below

    def test_an_unambiguous_beginning_names_a_run(self, runs):
        """Any beginning of the id will do, or the flow run of an object."""
        one = runs.chain()
        assert found("show", one[:3])["id"] == one
        assert found("show", f" {one[:6].upper()} ")["id"] == one
        mapped = runs.mapped(objects=2)
        flow_run = runs.storage.find(Kind.RESULT, {"parent_id": mapped})[0].flow_run_id
        assert found("show", flow_run)["id"] == mapped

    def test_an_ambiguous_beginning_is_refused(self, runs):
        """The error names two of those that begin so."""
        runs.flow("p", [(0, "Running")], run_id="abc1")
        runs.flow("p", [(0, "Running")], run_id="abc2")
        outcome = run("show", "abc")
        assert outcome.exit_code == 1
        assert "abc1" in outcome.stderr
        assert "abc2" in outcome.stderr
        assert found("show", "abc1")["id"] == "abc1"

    def test_an_unknown_run_names_others(self, runs):
        """The error names the nearest and latest runs; a name leads to its id."""
        assert "@recorded" in run("show", "abcd").stderr
        runs.flow("p", [(0, "Running")], run_id="abcdef12-x", name="quick-otter")
        outcome = run("show", "abcdef21")
        assert outcome.exit_code == 1
        assert "Did you mean abcdef12-x" in outcome.stderr
        assert "its id is abcdef12-x" in run("show", "quick-otter").stderr
        assert "beginning of it" in run("show", "  ").stderr

    def test_history_is_every_change_in_the_order_of_time(self, runs):
        """All changes with time, status, Prefect's name and message."""
        one = runs.chain()
        changes = found("show", one, "--history")["history"]
        assert len(changes) == 3 + 3 + 5 + 2
        assert sorted(c["timestamp"] for c in changes) == [
            c["timestamp"] for c in changes
        ]
        waiting = next(c for c in changes if c["state_name"] == "AwaitingRetry")
        assert waiting["message"] == "The licence server is busy"
        assert waiting["name"] == "track · track-0"
        shown = run("show", one, "--history").stdout
        (line,) = [li for li in shown.splitlines() if "AwaitingRetry" in li]
        assert line.startswith("2026-01-31 12:00:04.000  track · track-0")
        assert "○ PENDING  AwaitingRetry  The licence server is busy" in line

    def test_json_holds_the_whole_tree(self, runs):
        """Results, tasks with counts, runs, and where the run is from."""
        tree = found("show", runs.scan(points=30))
        (result,) = tree["results"]
        track = result["tasks"][1]
        assert track["run_counts"]["DONE"] == 28
        assert [run["index"] for run in track["runs"]] == [3, 17]
        assert track["runs"][0]["task_object"] == {"k": 0.3}
        assert tree["links"]["run"]["id"] == tree["id"]
        assert "history" not in tree

    @pytest.mark.parametrize(
        ("name", "head"), [("a.svg", b"<?xml"), ("a.PNG", b"\x89")]
    )
    def test_a_plot_is_written(self, runs, tmp_path, name, head):
        """--gantt writes SVG or PNG."""
        outcome = run("show", runs.chain(), "--gantt", tmp_path / name)
        assert outcome.exit_code == 0, outcome.output
        assert (tmp_path / name).read_bytes().startswith(head)

    def test_a_plot_needs_a_file_that_can_be_written(self, runs, tmp_path):
        """Another kind of file, and a folder that is not there, are refused."""
        one = runs.chain()
        outcome = run("show", one, "--gantt", tmp_path / "a.doc")
        assert outcome.exit_code == 1
        assert ".svg or .png" in outcome.stderr
        outcome = run("show", one, "--gantt", tmp_path / "no" / "a.png")
        assert outcome.exit_code == 1
        assert "cannot be written" in outcome.stderr


class TestFollow:
    def test_a_finished_run_ends_at_once(self, runs):
        """Following what is over prints it once, and what it belongs to."""
        outcome = run("show", runs.scan(points=30), "--follow")
        assert outcome.exit_code == 0
        lines = outcome.stdout.splitlines()
        assert lines[0].startswith("12:00:10  scan  ✗ RUNTIME_ERROR  ValueError")
        assert any("track  ✗ RUNTIME_ERROR  28 done, 2 failed" in li for li in lines)
        assert any("track [3]  ✗ RUNTIME_ERROR" in li for li in lines)
        assert any(li.startswith("run ") for li in lines)

    def test_changes_are_lines_until_the_run_is_over(self, runs, monkeypatch):
        """Each change is one line; it ends with the run, and repeats nothing."""
        monkeypatch.setattr("prefect_lume.cli.runs._following._EVERY", 0.02)
        one = runs.flow("live", [(0, "Pending"), (1, "Running")])

        def go_on():
            runs.task(one, "work", [[(2, "Running")]])
            runs.task(one, "work", [[(2, "Running"), (3, "Failed", "no beam")]])
            changes = runs.changes(one, Kind.EXECUTION, one, [(4, "Completed")])
            runs.storage.record(type(runs).batch(changes))

        going = threading.Event()
        printed = click.echo

        def echo(text, **options):
            # The run goes on once its first line is there.
            printed(text, **options)
            if not going.is_set():
                going.set()
                threading.Thread(target=go_on).start()

        monkeypatch.setattr("prefect_lume.cli.runs._following.click.echo", echo)
        outcome = run("show", one, "--follow", "--json")
        assert outcome.exit_code == 0, outcome.output
        *lines, whole = map(json.loads, outcome.stdout.splitlines())
        statuses = [line["status"] for line in lines if line["id"] == one]
        assert (statuses[0], statuses[-1]) == ("RUNNING", "RUNTIME_ERROR")
        assert any(line["message"] == "no beam" for line in lines)
        assert len({json.dumps(line) for line in lines}) == len(lines)
        assert whole["id"] == one


class TestDigest:
    def test_pipelines_are_summed_up(self, runs):
        """Runs, successes, failures, open ones, rate, average, last start."""
        runs.chain()
        runs.chain(100)
        runs.mapped(200, objects=5)
        header, first, second = run("digest").stdout.splitlines()
        assert header.split()[:6] == [
            *("pipeline", "runs", "succeeded", "failed", "open", "success")
        ]
        assert first.split() == [
            *("injector", "2", "2", "0", "0", "100.0%", "11.8", "s"),
            *("2026-01-31", "12:01:40"),
        ]
        assert second.split()[:6] == ["tuning", "4", "3", "1", "1", "75.0%"]
        items = found("digest")
        assert items["injector"]["last_ran"] == "2026-01-31T12:01:40.200000+00:00"

    def test_one_pipeline(self, runs):
        """--pipeline shows one; an unknown one is an error with the nearest."""
        runs.chain()
        runs.scan()
        assert list(found("digest", "--pipeline", "scan")) == ["scan"]
        outcome = run("digest", "--pipeline", "scam")
        assert outcome.exit_code == 1
        assert "Did you mean 'scan'?" in outcome.stderr


class TestCleanup:
    def test_old_runs_go_and_are_named(self, runs):
        """What started before a time goes, and its ids are printed."""
        old, new = runs.chain(), runs.chain(3600)
        waiting = runs.flow("waiting", [(5, "Pending")])
        outcome = run("cleanup", "--before", "2026-01-31T12:30", "--yes")
        assert outcome.exit_code == 0
        assert sorted(outcome.stdout.split()) == sorted([old, waiting])
        assert "Removed 2 runs" in outcome.stderr
        assert "Result documents stay" in outcome.stderr
        assert [row["id"] for row in found("list")] == [new]

    def test_a_dry_run_removes_nothing(self, runs):
        """It says how many would go, and from when to when."""
        runs.chain()
        runs.scan(100)
        outcome = run("cleanup", "--older-than", "1d", "--dry-run")
        assert "2 runs would go (1 done, 1 failed)" in outcome.stdout
        assert "2026-01-31 12:00:00 UTC" in outcome.stdout
        assert "2026-01-31 12:01:40 UTC" in outcome.stdout
        report = found("cleanup", "--all", "--dry-run")
        assert (report["runs"]["total"], report["removed"]) == (2, [])
        assert len(found("list")) == 2

    @pytest.mark.parametrize(
        "options",
        [[], ["--all", "--before", "now"], ["--before", "now", "--older-than", "1d"]],
    )
    def test_what_to_remove_has_to_be_said_once(self, runs, options):
        """Without a time, or with two, nothing is removed."""
        runs.chain()
        outcome = run("cleanup", *options, "--yes")
        assert outcome.exit_code == 1
        assert "--older-than 90d" in outcome.stderr
        assert len(found("list")) == 1

    def test_nobody_to_ask_is_an_error(self, runs):
        """Without --yes, where nobody can be asked, nothing is removed."""
        runs.chain()
        outcome = run("cleanup", "--all")
        assert outcome.exit_code == 1
        assert "--yes" in outcome.stderr
        assert len(found("list")) == 1

    def test_json_returns_the_ids(self, runs):
        """--json gives what went, for a script."""
        one = runs.chain()
        report = found("cleanup", "--all", "--yes")
        assert report["removed"] == [one]
        assert report["before"] is None
        assert (
            report["oldest"] == report["newest"] == "2026-01-31T12:00:00.200000+00:00"
        )

    def test_nothing_to_remove_is_no_error(self):
        """An empty storage needs no question."""
        outcome = run("cleanup", "--all")
        assert outcome.exit_code == 0
        assert "nothing to remove" in outcome.stdout
