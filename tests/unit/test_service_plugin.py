"""The service plugin: what is left out is said, and in CI it is a failure."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[1] / "plugins" / "services.py"
SUITE = """
    import pytest

    def test_plain():
        pass

    def test_by_fixture(mysql_url):
        pass

    @pytest.mark.service("mysql", "mongodb")
    def test_by_mark():
        pass

    def test_by_name(request):
        request.getfixturevalue("mongodb_url")
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """A project of its own that uses the plugin, with no service at hand."""
    module = sys.modules["lume_service_plugin"]
    for variable in (*module.VARIABLES.values(), "LUME_REQUIRE_SERVICES"):
        monkeypatch.delenv(variable, raising=False)
    pytester.makepyfile(lume_service_plugin_copy=PLUGIN.read_text("utf-8"))
    # Without the plugins of all that is installed, each run starts in half the time.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini(
        "[pytest]\naddopts = -p xdist.plugin -p lume_service_plugin_copy\n"
    )
    pytester.syspathinsert()
    # For the processes of tests that start some.
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))
    return pytester


def test_without_services_the_run_passes_and_says_what_it_left_out(
    project: pytest.Pytester,
) -> None:
    """Each missing service is named with its variable, its tests and the remedy."""
    project.makepyfile(SUITE)
    result = project.runpytest()
    result.assert_outcomes(passed=1, skipped=3)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "!*3 tests NOT RUN: SERVICES ARE MISSING*!",
            "mongodb: 2 tests left out, LUME_TEST_MONGODB_URL is not set",
            "mysql: 2 tests left out, LUME_TEST_MYSQL_URL is not set",
            "*scripts/services start mongodb mysql",
            "*scripts/services env*",
            "*tests/README.md*",
        ]
    )


@pytest.mark.parametrize("required", ["", "1"])
def test_workers_tell_what_they_left_out(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, required: str
) -> None:
    """Spread over two processes, nothing that was left out is forgotten."""
    monkeypatch.setenv("LUME_REQUIRE_SERVICES", required)
    module = "import pytest\npytest.skip('not here', allow_module_level=True)"
    project.makepyfile(test_one=SUITE, test_two=SUITE, test_three=module)
    result = project.runpytest_subprocess("--numprocesses=2", "--dist=loadfile")
    outcome = {"errors": 4, "failed": 2, "skipped": 1} if required else {"skipped": 7}
    result.assert_outcomes(passed=2, **outcome)
    assert (result.ret == pytest.ExitCode.OK) == (not required)
    end = ["!*SKIPPED, BUT MUST RUN*!", "test_three.py: not here"] if required else []
    result.stdout.fnmatch_lines(
        [
            "!*6 tests NOT RUN: SERVICES ARE MISSING*!",
            "mongodb: 4 tests left out, LUME_TEST_MONGODB_URL is not set",
            "mysql: 4 tests left out, LUME_TEST_MYSQL_URL is not set",
            *end,
        ]
    )


def test_a_skip_on_a_worker_fails_a_run_that_requires_services(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One skipped test or module, in whichever process, makes the run fail."""
    skip = "import pytest\ndef test_it(): pytest.skip('not today')"
    module = "import pytest\npytest.skip('not here', allow_module_level=True)"
    project.makepyfile(
        test_one="def test_one(): pass", test_two=skip, test_three=module
    )
    assert project.runpytest_subprocess("--numprocesses=2").ret == pytest.ExitCode.OK
    monkeypatch.setenv("LUME_REQUIRE_SERVICES", "1")
    result = project.runpytest_subprocess("--numprocesses=2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "!*SKIPPED, BUT MUST RUN*!",
            "test_three.py: not here",
            "test_two.py::test_it: not today",
        ]
    )


def test_what_was_left_out_is_said_after_everything_else(
    project: pytest.Pytester,
) -> None:
    """Nothing but pytest's one-line result stands below the section."""
    project.makepyfile(SUITE)
    lines = project.runpytest("-ra").stdout.lines
    section = next(n for n, line in enumerate(lines) if "SERVICES ARE MISSING" in line)
    assert any("short test summary" in line for line in lines[:section])
    assert len(lines) - section < 9


def test_a_run_that_needs_no_service_is_silent(project: pytest.Pytester) -> None:
    """No section appears when nothing was left out."""
    project.makepyfile("def test_plain(): pass")
    result = project.runpytest()
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*MISSING*")


def test_a_missing_service_is_an_error_when_services_are_required(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LUME_REQUIRE_SERVICES=1 turns every such skip into a failure."""
    monkeypatch.setenv("LUME_REQUIRE_SERVICES", "1")
    project.makepyfile(SUITE)
    result = project.runpytest()
    result.assert_outcomes(passed=1, errors=2, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*needs mysql and mongodb, but*"])


@pytest.mark.parametrize(
    ("source", "nodeid"),
    [
        (
            "import pytest\ndef test_it(): pytest.skip('not today')",
            "test_skips.py::test_it: not today",
        ),
        (
            "import pytest\npytest.skip('not here', allow_module_level=True)",
            "test_skips.py: not here",
        ),
        (
            "import pytest\n@pytest.mark.skip(reason='no')\ndef test_it(): pass",
            "test_skips.py::test_it: no",
        ),
    ],
    ids=["in the test", "whole module", "by mark"],
)
def test_any_skip_fails_the_run_when_services_are_required(
    project: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    nodeid: str,
) -> None:
    """A skip for any reason makes the exit status non-zero and is named."""
    project.makepyfile(test_skips=source, test_fine="def test_fine(): pass")
    assert project.runpytest().ret == pytest.ExitCode.OK
    monkeypatch.setenv("LUME_REQUIRE_SERVICES", "1")
    result = project.runpytest()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["!*SKIPPED, BUT MUST RUN*!", nodeid])


def test_an_expected_failure_is_no_skip(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An xfail ran; it does not fail a run that requires services."""
    monkeypatch.setenv("LUME_REQUIRE_SERVICES", "1")
    project.makepyfile("import pytest\n@pytest.mark.xfail\ndef test_x(): assert False")
    result = project.runpytest()
    result.assert_outcomes(xfailed=1)
    assert result.ret == pytest.ExitCode.OK


def test_the_mark_expression_finds_tests_by_their_fixtures(
    project: pytest.Pytester,
) -> None:
    """`-m service` selects a test that only names a service's fixture."""
    project.makepyfile(SUITE)
    result = project.runpytest("-m", "service", "--collect-only", "-q")
    result.stdout.fnmatch_lines(["*::test_by_fixture", "*::test_by_mark"])
    result.stdout.no_fnmatch_line("*::test_plain")


def test_an_unknown_service_in_a_mark_is_refused(project: pytest.Pytester) -> None:
    """A misspelt service never passes as one that is there."""
    project.makepyfile(
        "import pytest\n@pytest.mark.service('oracle')\ndef test_it(): pass"
    )
    result = project.runpytest()
    assert result.ret != pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*unknown service 'oracle'*mysql, mariadb*"])


def test_a_server_that_does_not_answer_is_named_by_its_variable(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL that leads nowhere fails with the variable and without the password."""
    monkeypatch.setenv("LUME_TEST_MYSQL_URL", "mysql+pymysql://u:s3cret@127.0.0.1:1/")
    project.makepyfile("def test_it(mysql_url): pass")
    result = project.runpytest("--tb=short")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*LUME_TEST_MYSQL_URL is set, but*"])
    result.stdout.no_fnmatch_line("*s3cret*")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "mongodb://u:p%40@h:1/?authSource=admin",
            "mongodb://u:p%40@h:1/new?authSource=admin",
        ),
        ("mongodb://u:p@h:1/old", "mongodb://u:p@h:1/new?authSource=old"),
        ("mongodb://u:p@h:1", "mongodb://u:p@h:1/new?authSource=admin"),
        ("mongodb://h:1,h:2/?replicaSet=r", "mongodb://h:1,h:2/new?replicaSet=r"),
    ],
)
def test_a_mongodb_url_keeps_where_it_logs_in(url: str, expected: str) -> None:
    """A fresh database name does not move the database that knows the user."""
    module = sys.modules["lume_service_plugin"]
    assert module.with_mongodb_database(url, "new") == expected


def test_tests_have_a_prefect_home_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the user's Prefect home nor an API URL reaches the tests."""
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    assert settings.home != Path.home() / ".prefect"
    assert settings.home in settings.profiles_path.parents
    assert settings.server.analytics_enabled is False
    # None, or the temporary server that the tests of this session have in common.
    assert (settings.api.url or "http://127.0.0.1").startswith("http://127.0.0.1")
