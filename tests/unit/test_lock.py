"""The lock: pip installs from it, hashes and all, whatever is released meanwhile."""

import re
from collections.abc import Iterator
from importlib.metadata import metadata, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = Path(__file__).parents[2] / "requirements.lock"
OWN = "prefect-lume"


def pins(text: str) -> dict[str, Requirement]:
    """Return what a lock pins on this machine, by name."""
    lines = re.findall(r"^([^\s#-].*?) \\$", text, re.MULTILINE)
    found = [Requirement(line) for line in lines]
    return {
        canonicalize_name(pin.name): pin
        for pin in found
        if pin.marker is None or pin.marker.evaluate()
    }


def needs(name: str, extras: set[str]) -> Iterator[Requirement]:
    """Yield what an installed distribution with some extras needs on this machine."""
    for line in requires(name) or ():
        need = Requirement(line)
        if canonicalize_name(need.name) != OWN and (
            need.marker is None
            or any(need.marker.evaluate({"extra": extra}) for extra in {"", *extras})
        ):
            yield need


def all_needs(pinned: dict[str, Requirement]) -> list[tuple[str, Requirement]]:
    """Return the needs of prefect-lume and of all that is pinned, with who has them."""
    having = {OWN: set(metadata(OWN).get_all("Provides-Extra") or ())}
    having |= {name: pin.extras for name, pin in pinned.items()}
    return [(name, need) for name in having for need in needs(name, having[name])]


def unmet(pinned: dict[str, Requirement]) -> list[str]:
    """Say which needs a lock leaves open, with the extras that were asked for."""
    return [
        f"{name} needs {need}"
        for name, need in all_needs(pinned)
        if (pin := pinned.get(canonicalize_name(need.name))) is None
        or not need.extras <= pin.extras
        or not need.specifier.contains(str(pin.specifier).removeprefix("=="))
    ]


def test_what_is_needed_is_pinned_with_its_extras():
    """Each requirement is in the lock, with the extras that it is asked for with.

    Where a lock has "x==1" and something needs "x[y]", pip looks for "x[y]" among all
    releases, and refuses the newest, which has no hash in the lock.
    """
    pinned = pins(LOCK.read_text())
    assert unmet(pinned) == []
    with_extras = [need for _, need in all_needs(pinned) if need.extras]
    assert len(with_extras) >= 5


@pytest.mark.parametrize("name", ["sqlalchemy", "psycopg", "httpx"])
def test_a_lock_without_extras_is_noticed(name):
    """A lock made without --no-strip-extras is named with who needs the extras."""
    text = LOCK.read_text()
    stripped = re.sub(rf"^({name})\[.+?\]", r"\1", text, flags=re.MULTILINE)
    assert stripped != text
    (first, *_) = unmet(pins(stripped))
    assert re.search(rf"needs {name}\[", first)


def test_everything_has_a_hash():
    """Nothing is pinned without one, since pip then takes nothing of the lock."""
    blocks = re.split(r"^(?=[^\s#])", LOCK.read_text(), flags=re.MULTILINE)[1:]
    assert len(blocks) > 100
    for block in blocks:
        assert re.match(r"[\w.-]+(\[[\w, -]+\])?==\S+", block), block[:80]
        assert "--hash=sha256:" in block, block[:80]
