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
    *("é", "É", "e\u0301", "ß", "SS", "İ", "i", "ı", "K", "\u212a", "ﬁ", "ａ"),
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
    words = "author laboratory facility beampath description".split()
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
    words = "version package_import_name source image".split()
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
def tests(draw: Any, fields: dict[str, tuple[str, Values]]) -> tuple[str, Answer]:
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

    return st.recursive(tests(fields), joined, max_leaves=6)


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
