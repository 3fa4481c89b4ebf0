"""Search gives the answers that its language promises, the same on every database.

An evaluator in plain Python, which shares nothing with the search, says what is right.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event

from prefect_lume import migrations
from prefect_lume.errors import InvalidInputError
from prefect_lume.registry import search, tables

DATABASES = [
    "sqlite",
    pytest.param("mysql", marks=pytest.mark.service("mysql")),
    pytest.param("mariadb", marks=pytest.mark.service("mariadb")),
    pytest.param("postgresql", marks=pytest.mark.service("postgresql")),
]
WORDS = [
    *(
        "a",
        "A",
        "b",
        "ab",
        "aB",
        "a b",
        " a",
        "a ",
        "a\n",
        "a\t",
        "ba",
        "aab",
        "Z",
        "z",
    ),
    *("é", "É", "e\u0301", "ß", "SS", "İ", "i", "ı", "K", "\u212a", "ﬁ", "ａ"),  # noqa: RUF001
    *("🜚", "a🜚", "\uffff", "\ue000", "\U0010ffff", "\u200b"),
    *(
        "%",
        "a%",
        "_",
        "a_b",
        "\\",
        "a\\b",
        "\\%",
        "!",
        "a!%",
        "*",
        "?",
        "[a]",
        "a[",
        "]",
    ),
    *("'", "''", '"', "`", "a'b", "--", ";", "/*", "${x}", "{0}", ":a", "%s", "%(a)s"),
    "'; DROP TABLE model; --",
    "x" * 130,
    "x" * 130 + "y",
]
"""What people name things, and what they had better not."""
LONG = ["🜚" * 300, "🜚" * 299 + "a", "x" * 10_000, "x" * 9_999 + "'", "s" * 249 + "b"]
KEYS = ["stage", "a b", "a.b", "a-b", 'q"', "b`", "é🜚", "select", "in", "%"]
START = datetime(2026, 3, 28, 23, tzinfo=UTC)
MOMENTS = [
    START + timedelta(hours=hours, microseconds=more)
    for hours in (0, 1, 2, 24, 25, 26, 240)
    for more in (-1, 0, 1)
]
SHAS = ["a" * 64, "ab" * 32, "0" * 64, "f" * 64]


@dataclass
class Contents:
    """What the registry holds, as Python's data."""

    models: dict[int, dict[str, Any]] = field(default_factory=dict)
    deployments: dict[int, dict[str, Any]] = field(default_factory=dict)


@pytest.fixture(params=DATABASES)
def engine(
    request: pytest.FixtureRequest,
    emptied_database: Callable[[str, Callable[[Engine], None]], Engine],
) -> Engine:
    return emptied_database(request.param, migrations.upgrade)


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as opened:
        yield opened


# --- rows -------------------------------------------------------------------------


def add_model(connection: Connection, contents: Contents, number: int, **values: Any):
    row = {
        "model_id": number,
        "author": "a",
        "laboratory": "slac",
        "facility": "lcls",
        "beampath": "cu_hxr",
        "description": "a model",
        "created": START,
        **values,
    }
    tags = row.pop("tags", {})
    words = ["author", "laboratory", "facility", "beampath", "description"]
    text = "\n".join(row[word] for word in words if row[word]).casefold()
    stored = {**row, "fingerprint": f"{number:064}", "search_text": text}
    connection.execute(tables.ModelRow.__table__.insert(), stored)
    add_tags(connection, "model", number, tags)
    contents.models[number] = {**row, "tags": tags, "text": text, "deployments": []}


def add_deployment(
    connection: Connection,
    contents: Contents,
    number: int,
    model_id: int,
    **values: Any,
):
    row = {
        "deployment_id": number,
        "model_id": model_id,
        "version": f"1.{number}",
        "deploy_date": START,
        "package_import_name": "my_model",
        "asset_dir": None,
        "source": "https://example.org/a.tar.gz",
        "sha256": SHAS[0],
        "image": None,
        "is_live": False,
        "description": "",
        "retired": None,
        "parent_deployment_id": None,
        **values,
    }
    more = {name: row.pop(name, {}) for name in ("tags", "aliases", "flows")}
    words = ["version", "package_import_name", "source", "image"]
    text = "\n".join(row[word] for word in words if row[word]).casefold()
    connection.execute(
        tables.DeploymentRow.__table__.insert(), {**row, "search_text": text}
    )
    add_tags(connection, "deployment", number, more["tags"])
    for alias in more["aliases"]:
        connection.execute(
            tables.AliasRow.__table__.insert(),
            {"model_id": model_id, "alias": alias, "deployment_id": number},
        )
    for place, (name, project) in enumerate(more["flows"] or ()):
        connection.execute(
            tables.FlowRow.__table__.insert(),
            {
                "flow_id": f"flow-{number}-{place}",
                "flow_name": name,
                "project_name": project,
                "deployment_id": number,
                "created": START,
            },
        )
    model = contents.models[model_id]
    found = {**row, **more, "text": text, "model": model}
    contents.deployments[number] = found
    model["deployments"].append(found)


def add_tags(connection: Connection, owner: str, number: int, tags: dict[str, str]):
    table = tables.metadata.tables[f"{owner}_tag"]
    for key, value in tags.items():
        row = {f"{owner}_id": number, "key": key, "value": value}
        connection.execute(table.insert(), {**row, "value_start": value[:120]})


def filled(connection: Connection, seed: int) -> Contents:
    """Fill an empty registry by chance, and return what is in it."""
    chance = random.Random(seed)
    contents = Contents()
    for project in ("p", "P", "p'"):
        connection.execute(
            tables.ProjectRow.__table__.insert(),
            {"project_name": project, "description": "", "created": START},
        )
    for number in range(1, 9):
        add_model(
            connection,
            contents,
            number,
            author=chance.choice(WORDS),
            laboratory=chance.choice(["slac", "SLAC", "desy"]),
            description=chance.choice(WORDS),
            created=chance.choice(MOMENTS),
            tags=some_tags(chance),
        )
    flows = [(name, project) for name in WORDS[:20] for project in ("p", "P", "p'")]
    aliases = [
        (a, m) for a in ("candidate", "Candidate", "é", "%") for m in range(1, 9)
    ]
    chance.shuffle(flows)
    chance.shuffle(aliases)
    versions = [(word, m) for word in WORDS for m in range(1, 9)]
    chance.shuffle(versions)
    live: set[int] = set()
    for number in range(1, 50):
        version, model_id = versions.pop()
        is_live = model_id not in live and chance.random() < 0.3
        if is_live:
            live.add(model_id)
        mine = [a for a, m in aliases if m == model_id][: chance.choice([0, 0, 1, 2])]
        aliases = [(a, m) for a, m in aliases if m != model_id or a not in mine]
        add_deployment(
            connection,
            contents,
            number,
            model_id,
            version=version,
            deploy_date=chance.choice(MOMENTS),
            package_import_name=chance.choice(WORDS),
            asset_dir=chance.choice([None, *WORDS, *(w[:1024] for w in LONG)]),
            source=chance.choice(WORDS + LONG),
            sha256=chance.choice(SHAS),
            image=chance.choice([None, None, *WORDS]),
            is_live=is_live,
            description=chance.choice(["", *WORDS, *(word[:4000] for word in LONG)]),
            retired=chance.choice([None, None, *MOMENTS]),
            parent_deployment_id=chance.choice([None, 1, 2, 49, 2**31 - 1]),
            tags=some_tags(chance),
            aliases=mine,
            flows=[flows.pop() for _ in range(chance.choice([0, 0, 1, 2])) if flows],
        )
    connection.commit()
    return contents


def some_tags(chance: random.Random) -> dict[str, str]:
    keys = chance.sample(KEYS, chance.choice([0, 1, 3]))
    return {key: chance.choice(WORDS + [w[:5000] for w in LONG]) for key in keys}


# --- what is right ----------------------------------------------------------------

Row = dict[str, Any]
Answer = Callable[[Row], bool]
Values = Callable[[Row], list[Any]]


def column(name: str) -> Values:
    return lambda row: [] if row[name] is None else [row[name]]


def of_model(name: str) -> Values:
    return lambda row: column(name)(row["model"])


def of_deployments(name: str) -> Values:
    return lambda row: [v for d in row["deployments"] for v in column(name)(d)]


def tag(key: str) -> Values:
    return lambda row: [row["tags"][key]] if key in row["tags"] else []


def model_tag(key: str) -> Values:
    return lambda row: tag(key)(row["model"])


def keyed(prefix: str, key: str) -> str:
    if re.fullmatch(r"[A-Za-z][\w-]*(\.[A-Za-z]\w*)*", key, re.ASCII):
        return f"{prefix}.{key}"
    if "`" in key:
        return prefix + '."' + key.replace('"', '""') + '"'
    return f"{prefix}.`{key}`"


OF_DEPLOYMENT: dict[str, str] = {
    "deployment_id": "number",
    "model_id": "number",
    "version": "text",
    "deploy_date": "date",
    "package_import_name": "text",
    "asset_dir": "text",
    "source": "text",
    "sha256": "sha",
    "image": "text",
    "is_live": "flag",
    "description": "text",
    "retired": "date",
    "parent_deployment_id": "number",
}
OF_MODEL = {
    "model_id": "number",
    "author": "text",
    "laboratory": "text",
    "facility": "text",
    "beampath": "text",
    "description": "text",
    "created": "date",
}
DEPLOYMENT_FIELDS: dict[str, tuple[str, Values]] = (
    {name: (kind, column(name)) for name, kind in OF_DEPLOYMENT.items()}
    | {f"model.{name}": (kind, of_model(name)) for name, kind in OF_MODEL.items()}
    | {name: ("text", of_model(name)) for name in ("author", "laboratory", "beampath")}
    | {keyed("tags", key): ("text", tag(key)) for key in KEYS}
    | {keyed("model.tags", key): ("text", model_tag(key)) for key in KEYS}
    | {
        "tag.stage": ("text", tag("stage")),
        "alias": ("text", lambda row: list(row["aliases"])),
        "flow": ("text", lambda row: [name for name, _ in row["flows"]]),
        "project": ("text", lambda row: [project for _, project in row["flows"]]),
        "text": ("words", lambda row: [row["text"], row["model"]["text"]]),
    }
)
MODEL_FIELDS: dict[str, tuple[str, Values]] = (
    {name: (kind, column(name)) for name, kind in OF_MODEL.items()}
    | {
        f"deployment.{n}": (kind, of_deployments(n))
        for n, kind in OF_DEPLOYMENT.items()
    }
    | {keyed("tags", key): ("text", tag(key)) for key in KEYS}
    | {
        "version": ("text", of_deployments("version")),
        "is_live": (
            "flag",
            lambda row: [any(d["is_live"] for d in row["deployments"])],
        ),
        "alias": (
            "text",
            lambda row: [a for d in row["deployments"] for a in d["aliases"]],
        ),
        "text": ("words", column("text")),
    }
)


def ascii_lower(text: str) -> str:
    return "".join(c.lower() if c.isascii() else c for c in text)


def fits_pattern(value: str, pattern: str) -> bool:
    parts = re.findall(r"\\[%_\\]|.", pattern, re.DOTALL)
    wild = {"%": ".*", "_": "."}
    found = "".join(wild.get(p) or re.escape(p[-1]) for p in parts)
    return re.fullmatch(found, value, re.DOTALL) is not None


def quoted(text: str, draw: Any = None) -> str:
    mark = draw(st.sampled_from("'\"")) if draw else "'"
    return mark + text.replace(mark, mark * 2) + mark


texts = st.one_of(
    st.sampled_from([*WORDS, *LONG[:2]]),
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3
    ),
)
patterns = st.lists(
    st.one_of(st.sampled_from(["%", "_", "\\%", "\\_", "\\\\", "\\"]), texts),
    max_size=3,
).map("".join)


@st.composite
def dates(draw: Any) -> tuple[str, datetime, datetime]:
    """A date as text, and the first and last microsecond that it means."""
    moment = draw(st.sampled_from(MOMENTS))
    if draw(st.booleans()):
        day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        last = day + timedelta(days=1) - timedelta(microseconds=1)
        return f"'{day.date()}'", day, last
    hours = draw(st.integers(-14, 14))
    local = (moment + timedelta(hours=hours)).replace(tzinfo=None).isoformat()
    zone = draw(st.sampled_from("Zz")) if hours == 0 else f"{hours:+03}:00"
    return f"'{local}{zone}'", moment, moment


def word(draw: Any, text: str) -> str:
    return draw(st.sampled_from([text, text.lower(), text.capitalize()]))


@st.composite
def asked_of(draw: Any, fields: dict[str, tuple[str, Values]]) -> tuple[str, Answer]:
    """One test, as text and as what is right."""
    name = draw(st.sampled_from(sorted(fields)))
    kind, values = fields[name]
    if kind == "words":
        part = draw(texts)
        mark, no = draw(st.sampled_from([("", False), ("NOT ", True)]))
        return (
            f"{name} {mark}CONTAINS {quoted(part)}",
            lambda row: any(part.casefold() in v for v in values(row)) is not no,
        )
    if draw(st.integers(0, 7)) == 0:
        no = draw(st.booleans())
        asked = word(draw, "IS NOT NULL" if no else "IS NULL")
        return f"{name} {asked}", lambda row: bool(values(row)) is no
    if kind == "flag":
        text, wanted = draw(
            st.sampled_from(
                [("", True), ("= true", True), ("!= TRUE", False), ("= false", False)]
            )
        )
        return f"{name} {text}", lambda row: wanted in values(row)
    if kind == "date" and name == "retired" and draw(st.booleans()):
        return name, lambda row: bool(values(row))
    text, passes = draw(of_kind(kind))
    return f"{name} {text}", lambda row: any(passes(v) for v in values(row))


@st.composite
def of_kind(draw: Any, kind: str) -> tuple[str, Callable[[Any], bool]]:
    operators = ["=", "!=", "<>", "<", "<=", ">", ">=", "IN", "BETWEEN"]
    if kind in {"text", "sha"}:
        operators += ["LIKE", "ILIKE", "CONTAINS"]
    operator = draw(st.sampled_from(operators))
    if kind == "date":
        return draw(of_dates(operator))
    if kind == "number":
        numbers = st.sampled_from([-1, 0, 1, 2, 3, 8, 25, 49, 2**31 - 1, -(2**31)])
        one = numbers.map(lambda n: (str(n), n))
    elif kind == "sha":
        exact = operator in {"=", "!=", "<>", "IN"}
        short = st.sampled_from(["a", "ab", "0", "f%", "%b", "A%", "", "ab" * 32])
        one = (st.sampled_from(SHAS) if exact else short).map(lambda t: (quoted(t), t))
    else:
        pool = patterns if operator.endswith("LIKE") else texts
        chosen = draw(pool)
        pool = st.one_of(st.just(chosen), pool)
        one = pool.map(lambda t: (quoted(t, draw), t))
    written, value = draw(one)
    no = operator not in {"=", "!=", "<>", "<", "<=", ">", ">="} and draw(st.booleans())
    spelled = word(draw, "NOT " if no else "") + word(draw, operator)
    if operator == "IN":
        more = draw(st.lists(one, max_size=3))
        every = {value, *(v for _, v in more)}
        listed = ", ".join([written, *(w for w, _ in more)])
        return f"{spelled} ({listed})", lambda v: (v in every) is not no
    if operator == "BETWEEN":
        end, last = draw(one)
        return (
            f"{spelled} {written} AND {end}",
            lambda v: (value <= v <= last) is not no,
        )
    compare: dict[str, Callable[[Any], bool]] = {
        "=": lambda v: v == value,
        "!=": lambda v: v != value,
        "<>": lambda v: v != value,
        "<": lambda v: v < value,
        "<=": lambda v: v <= value,
        ">": lambda v: v > value,
        ">=": lambda v: v >= value,
        "LIKE": lambda v: fits_pattern(v, value),
        "ILIKE": lambda v: fits_pattern(ascii_lower(v), ascii_lower(value)),
        "CONTAINS": lambda v: value in v,
    }
    return f"{spelled} {written}", lambda v: compare[operator](v) is not no


@st.composite
def of_dates(draw: Any, operator: str) -> tuple[str, Callable[[datetime], bool]]:
    written, first, last = draw(dates())
    if operator in {"IN", "BETWEEN"}:
        no = draw(st.booleans())
        mark = "NOT " if no else ""
        other, start, end = draw(dates())
        if operator == "IN":
            return (
                f"{mark}IN ({written}, {other})",
                lambda v: (first <= v <= last or start <= v <= end) is not no,
            )
        return (
            f"{mark}BETWEEN {written} AND {other}",
            lambda v: (first <= v <= end) is not no,
        )
    compare: dict[str, Callable[[datetime], bool]] = {
        "=": lambda v: first <= v <= last,
        "!=": lambda v: not first <= v <= last,
        "<>": lambda v: not first <= v <= last,
        "<": lambda v: v < first,
        "<=": lambda v: v <= last,
        ">": lambda v: v > last,
        ">=": lambda v: v >= first,
    }
    return f"{operator} {written}", compare[operator]


def filters(
    fields: dict[str, tuple[str, Values]],
) -> st.SearchStrategy[tuple[str, Answer]]:
    """Whole filters: tests joined by AND, OR, NOT and parentheses."""

    def joined(inner: st.SearchStrategy[tuple[str, Answer]]) -> st.SearchStrategy[Any]:
        def make(parts: list[tuple[str, Answer]], every: bool) -> tuple[str, Answer]:
            join, combine = (" AND ", all) if every else (" or ", any)
            text = join.join(f"({text})" for text, _ in parts)
            return text, lambda row: combine(answer(row) for _, answer in parts)

        return st.one_of(
            st.builds(make, st.lists(inner, min_size=2, max_size=3), st.booleans()),
            inner.map(lambda one: (f"NOT ({one[0]})", lambda row: not one[1](row))),
        )

    return st.recursive(asked_of(fields), joined, max_leaves=6)


def thorough(examples: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


# --- answers ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_any_filter_of_deployments_is_answered_right(
    connection: Connection, seed: int
) -> None:
    """Deployments are found by every field and operator as plain Python finds them."""
    rows = filled(connection, seed).deployments

    @thorough(200)
    @given(filters(DEPLOYMENT_FIELDS))
    def check(asked: tuple[str, Answer]) -> None:
        text, answer = asked
        expected = [number for number, row in rows.items() if answer(row)]
        found = search.deployments(connection, text, limit=1000)
        assert list(found.ids) == expected, text
        assert search.count_deployments(connection, text) == len(expected), text

    check()


@pytest.mark.parametrize("seed", [3, 4])
def test_any_filter_of_models_is_answered_right(
    connection: Connection, seed: int
) -> None:
    """Models are found by every field and operator as plain Python finds them."""
    rows = filled(connection, seed).models

    @thorough(150)
    @given(filters(MODEL_FIELDS))
    def check(asked: tuple[str, Answer]) -> None:
        text, answer = asked
        expected = [number for number, row in rows.items() if answer(row)]
        assert list(search.models(connection, text).ids) == expected, text
        assert search.count_models(connection, text) == len(expected), text

    check()


@pytest.fixture
def statements(engine: Engine) -> Iterator[list[str]]:
    """The statements that were sent."""
    sent: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if not statement.startswith("BEGIN"):
            sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


def test_a_page_is_one_statement(connection: Connection, statements: list[str]) -> None:
    """Whatever is asked and found, it is one statement; SQLite counts tags before."""
    filled(connection, 5)
    statements.clear()
    asked = (
        "laboratory IN ('slac', 'desy') AND (tags.stage LIKE '%' OR NOT alias = 'x')"
        " AND text CONTAINS '' AND NOT flow = 'f' AND NOT is_live"
    )
    for limit in (1, 1000):
        search.deployments(connection, asked, order_by="laboratory, image", limit=limit)
        search.models(connection, "is_live OR version != 'x'", limit=limit)
    search.count_deployments(connection, asked)
    # Three of the five searches ask for a tag of deployments.
    assert len(statements) == (8 if connection.dialect.name == "sqlite" else 5)


def test_issue_example_is_answered(connection: Connection) -> None:
    """The example of the language finds what a person would expect."""
    contents = Contents()
    add_model(connection, contents, 1)
    add_model(connection, contents, 2, laboratory="desy")
    beamtime = {"tags": {"stage": "beamtime"}, "deploy_date": START + timedelta(days=1)}
    add_deployment(connection, contents, 1, 1, **beamtime)
    add_deployment(connection, contents, 2, 1, **{**beamtime, "deploy_date": START})
    add_deployment(connection, contents, 3, 1, **beamtime, retired=START)
    add_deployment(connection, contents, 4, 2, **beamtime)
    add_deployment(
        connection,
        contents,
        5,
        1,
        aliases=["candidate"],
        deploy_date=START + timedelta(days=1),
    )
    add_deployment(connection, contents, 6, 1, deploy_date=START + timedelta(days=1))
    asked = (
        "laboratory = 'slac' AND (tags.stage = 'beamtime' OR alias = 'candidate')"
        " AND NOT retired AND deploy_date >= '2026-03-29'"
    )
    assert search.deployments(connection, asked).ids == (1, 5)


def test_times_are_exact_where_clocks_change(connection: Connection) -> None:
    """In the hour that comes twice and the one that is left out, moments are exact."""
    contents = Contents()
    add_model(connection, contents, 1)
    # Europe/Berlin: on 25 October 2026 at 01:00 UTC it is 02:00 for the second time.
    moments = [datetime(2026, 10, 25, hour, 30, tzinfo=UTC) for hour in (0, 1)]
    moments.append(datetime(2026, 3, 29, 1, 30, tzinfo=UTC))
    for number, moment in enumerate(moments, 1):
        add_deployment(connection, contents, number, 1, deploy_date=moment)
    for asked, expected in {
        "= '2026-10-25T02:30:00+02:00'": (1,),
        "= '2026-10-25T02:30:00+01:00'": (2,),
        "= '2026-10-25T00:30Z'": (1,),
        "= '2026-03-29T02:30+01:00'": (3,),
        "= '2026-03-29T03:30+02:00'": (3,),
        "= '2026-10-25'": (1, 2),
        "< '0001-01-01'": (),
        "> '0001-01-01T00:00:00Z'": (1, 2, 3),
        "<= '9999-12-31'": (1, 2, 3),
        "< '9999-12-31T23:59:59.999999Z'": (1, 2, 3),
    }.items():
        found = search.deployments(connection, f"deploy_date {asked}")
        assert found.ids == expected, asked


def test_now_and_ago_are_measured_from_the_search(connection: Connection) -> None:
    """``now`` and ``'7 days ago'`` are moments before the first page."""
    contents = Contents()
    add_model(connection, contents, 1)
    now = datetime.now(UTC)
    for number, days in enumerate((-1, 1, 6, 8), 1):
        moment = now - timedelta(days=days)
        add_deployment(connection, contents, number, 1, deploy_date=moment)
    for asked, expected in {
        "> now": (1,),
        "<= 'now'": (2, 3, 4),
        "BETWEEN '7 days ago' AND now": (2, 3),
        "< '1 week ago'": (4,),
        "< '999999 weeks ago'": (),
    }.items():
        found = search.deployments(connection, f"deploy_date {asked}")
        assert found.ids == expected, asked


# --- nothing gets in --------------------------------------------------------------

INJECTIONS = [
    "' OR 1=1 --",
    "'; DROP TABLE deployment; --",
    "x' UNION SELECT 1 --",
    '" OR ""="',
    "\\' OR 1=1 #",
    "`; SELECT 1; `",
    "%' OR '%'='",
    "1; DELETE FROM deployment",
    "/* */ OR 1=1",
    "${jndi}",
    "%(x)s :x ? $1",
]


def test_sql_in_a_value_is_only_text(connection: Connection) -> None:
    """SQL in any literal matches nothing but the very same text."""
    rows = filled(connection, 6)
    add_deployment(connection, rows, 100, 1, version=INJECTIONS[0])
    for text in INJECTIONS:
        value = search.quoted(text)
        for asked in (
            f"author = {value}",
            f"version IN ({value}, {value})",
            f"source CONTAINS {value}",
            f"image LIKE {value}",
            f"description ILIKE {value}",
            f"alias = {value} OR flow = {value} OR project = {value}",
            f"tags.stage = {value} OR model.tags.stage LIKE {value}",
            f"tags.`{text.replace('`', '``')}` IS NOT NULL",
            f"text CONTAINS {value}",
            f"version BETWEEN {value} AND {value}",
        ):
            expected = (100,) if text == INJECTIONS[0] and "version" in asked else ()
            if text == INJECTIONS[0] and "text" in asked:
                expected = (100,)
            assert search.deployments(connection, asked).ids == expected, asked
    assert search.count_deployments(connection) == len(rows.deployments)


def test_sql_outside_a_value_is_refused(connection: Connection) -> None:
    """SQL in the place of a field, an operator, an order or a token is an error."""
    filled(connection, 6)
    for text in INJECTIONS:
        for asked in (text, f"{text} = 'x'", f"version {text}", f"model.{text} = 'x'"):
            with pytest.raises(InvalidInputError):
                search.deployments(connection, asked)
        with pytest.raises(InvalidInputError):
            search.deployments(connection, order_by=text)
        with pytest.raises(InvalidInputError):
            search.models(connection, page_token=text)
    assert search.count_deployments(connection) == 49


def test_longest_filters_are_answered(connection: Connection) -> None:
    """Filters at the limits of length, terms and depth work, on every database."""
    rows = filled(connection, 7).deployments
    everything = tuple(rows)
    for many in (
        " AND ".join(["NOT image='x'"] * 500),
        " OR ".join(["tags.a = 'b'"] * 499 + ["model_id > 0"]),
        " AND ".join(["NOT tag.a='b'"] * 500),
        "NOT alias IN (" + ", ".join(["'x'"] * 500) + ")",
        f"NOT source LIKE '{'%a_' * 3_000}'",
        f"NOT source CONTAINS '{'🜚' * 9_000}'",
        f"NOT image ILIKE '{'%aZ' * 3_000}'",
    ):
        assert search.deployments(connection, many).ids == everything, many[:60]
    for leaf in ("image = 'x'", "NOT tags.stage = 'x'", "NOT text CONTAINS 'x y z'"):
        deep = leaf
        for level in range(49):
            word = "AND" if level % 2 else "OR"
            deep = f"NOT {leaf} {word} ({deep})"
        found = search.count_deployments(connection, deep)
        opposite = search.count_deployments(connection, f"NOT ({deep})")
        assert found + opposite == len(rows)


# --- order and pages --------------------------------------------------------------

ORDERS = [
    "deployment_id",
    "deployment_id DESC",
    "deploy_date desc",
    "laboratory, version DESC",
    "version",
    "image DESC, source",
    "asset_dir",
    "retired DESC, deploy_date",
    "parent_deployment_id, is_live DESC",
    "description DESC",
    "model.description, model.created DESC, sha256",
    "is_live DESC, model_id",
]


def in_order(rows: dict[int, Row], order: str) -> list[int]:
    """Sort as the documentation says: by one column at a time, the last one first."""
    parts = [part.split() for part in order.split(",")]
    falling = len(parts[-1]) > 1
    found = sorted(rows, reverse=falling)
    for part in reversed(parts):
        name = part[0].removeprefix("model.")
        model = name not in OF_DEPLOYMENT or part[0] != name

        def value(number: int, name: str = name, model: bool = model) -> Any:
            row = rows[number]["model"] if model else rows[number]
            cut = isinstance(row[name], str) and name in {
                "asset_dir",
                "source",
                "image",
                "description",
            }
            return row[name][:250] if cut else row[name]

        there = [n for n in found if value(n) is not None]
        missing = [n for n in found if value(n) is None]
        down = len(part) > 1 and part[1].lower() == "desc"
        # Equal ones keep their places, in either direction.
        found = sorted(there, key=value, reverse=down) + missing
    return found


def pages(connection: Connection, size: int, order: str, where: str = "") -> list[int]:
    found: list[int] = []
    token = None
    while True:
        page = search.deployments(
            connection, where, order_by=order, limit=size, page_token=token
        )
        found += page.ids
        token = page.next_page_token
        if token is None:
            return found
        assert len(page.ids) == size


@pytest.mark.parametrize("order", ORDERS)
def test_rows_come_in_order(connection: Connection, order: str) -> None:
    """Any column orders by code point, NULL last; pages of any size give the same."""
    rows = filled(connection, 8).deployments
    expected = in_order(rows, order)
    for size in (1, 7, 49, 1000):
        assert pages(connection, size, order) == expected
    assert pages(connection, 3, order.split(",")) == expected  # type: ignore[arg-type]


def test_pages_are_complete_while_rows_are_inserted(connection: Connection) -> None:
    """What was there at the start comes once, in order, whatever is added meanwhile."""
    contents = filled(connection, 9)
    before = list(contents.deployments)
    chance = random.Random(9)
    for order in ("version", "deploy_date DESC", "image DESC, version"):
        expected = [n for n in in_order(contents.deployments, order) if n in before]
        found: list[int] = []
        token = None
        while True:
            page = search.deployments(
                connection, order_by=order, limit=4, page_token=token
            )
            found += page.ids
            number = 1 + max(contents.deployments)
            add_deployment(
                connection,
                contents,
                number,
                chance.randint(1, 8),
                version=f"{chance.choice(WORDS)}{number}",
                deploy_date=chance.choice(MOMENTS),
                image=chance.choice([None, *WORDS]),
            )
            token = page.next_page_token
            if token is None:
                break
        assert len(set(found)) == len(found)
        assert [number for number in found if number in before] == expected


def test_models_have_orders_and_pages(connection: Connection) -> None:
    """Models are paged as deployments are."""
    rows = filled(connection, 10).models
    expected = sorted(rows, key=lambda n: (rows[n]["created"], n), reverse=True)
    found: list[int] = []
    token = None
    while token is not None or not found:
        page = search.models(
            connection, order_by="created DESC", limit=3, page_token=token
        )
        found += page.ids
        token = page.next_page_token
    assert found == expected


def test_a_deleted_row_does_not_end_the_pages(connection: Connection) -> None:
    """The next page begins where the last one ended, though its last row is gone."""
    contents = Contents()
    add_model(connection, contents, 1)
    for number in range(1, 6):
        add_deployment(connection, contents, number, 1)
    page = search.deployments(connection, limit=2)
    table = tables.DeploymentRow.__table__
    connection.execute(table.delete().where(table.c.deployment_id == 2))
    rest = search.deployments(connection, limit=2, page_token=page.next_page_token)
    assert rest.ids == (3, 4)
