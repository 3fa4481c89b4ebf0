"""An exported folder that is broken, or made up: nothing of it is stored."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from prefect_lume.errors import (
    IntegrityError,
    InvalidInputError,
    LumeError,
    NotFoundError,
)
from prefect_lume.results.stores.trees import to_json
from prefect_lume.results.transfer import import_results


def blob_files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "blobs").rglob("*") if path.is_file())


def rewrite(folder: Path, lines: list[bytes]) -> None:
    """Give a folder other lines, and a manifest that fits them."""
    text = b"".join(line + b"\n" for line in lines)
    (folder / "results.jsonl").write_bytes(text)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {
        "documents": len(lines),
        "results_bytes": len(text),
        "results_sha256": hashlib.sha256(text).hexdigest(),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def read_lines(folder: Path) -> list[bytes]:
    return (folder / "results.jsonl").read_bytes().splitlines()


Damage = Callable[[Path], object]


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _link(path: Path) -> None:
    aside = path.parent.parent.parent.parent / "aside"
    path.rename(aside)
    path.symlink_to(aside)


def _change(old: bytes, new: bytes) -> Damage:
    def change(folder: Path) -> None:
        rewrite(folder, [line.replace(old, new) for line in read_lines(folder)])

    return change


def _manifest(**changes: object) -> Damage:
    def change(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text()) | changes
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return change


def _line(number: int, change: Callable[[dict], object]) -> Damage:
    def damage(folder: Path) -> None:
        lines = read_lines(folder)
        item = json.loads(lines[number - 1])
        change(item["document"])
        item["document"].pop("_checksum", None)
        item["document"]["format"] = 1
        lines[number - 1] = to_json(item).encode()
        rewrite(folder, lines)

    return damage


DAMAGES: dict[str, tuple[Damage, type[LumeError], str]] = {
    "truncated lines": (
        lambda f: _cut(f / "results.jsonl"),
        IntegrityError,
        r"results\.jsonl has \d+ bytes and not",
    ),
    "flipped bit in lines": (
        lambda f: _flip(f / "results.jsonl"),
        IntegrityError,
        r"results\.jsonl is not what was exported",
    ),
    "flipped bit in a blob": (
        lambda f: _flip(blob_files(f)[3]),
        IntegrityError,
        r"blobs/../[0-9a-f]{64} is damaged",
    ),
    "truncated blob": (
        lambda f: _cut(blob_files(f)[3]),
        IntegrityError,
        "is damaged",
    ),
    "missing blob": (
        lambda f: blob_files(f)[3].unlink(),
        IntegrityError,
        "holds 8 blobs",
    ),
    "blob as symbolic link": (
        lambda f: _link(blob_files(f)[3]),
        IntegrityError,
        "not a plain file",
    ),
    "blobs as symbolic link": (
        lambda f: ((f / "blobs").rename(f.parent / "b"), (f / "blobs").symlink_to("b")),
        InvalidInputError,
        "symbolic link",
    ),
    "shard as symbolic link": (
        lambda f: _link(blob_files(f)[3].parent),
        InvalidInputError,
        "symbolic link",
    ),
    "lines as symbolic link": (
        lambda f: (
            (f / "results.jsonl").rename(f.parent / "r"),
            (f / "results.jsonl").symlink_to(f.parent / "r"),
        ),
        InvalidInputError,
        "symbolic link",
    ),
    "foreign file": (
        lambda f: (f / "notes.txt").touch(),
        InvalidInputError,
        "not part of an export: 'notes.txt'",
    ),
    "foreign file among blobs": (
        lambda f: (f / "blobs" / "evil.sh").touch(),
        InvalidInputError,
        "'evil.sh'",
    ),
    "foreign file in a shard": (
        lambda f: (blob_files(f)[0].parent / "x").touch(),
        InvalidInputError,
        "'x'",
    ),
    "no lines": (
        lambda f: (f / "results.jsonl").unlink(),
        IntegrityError,
        r"results\.jsonl is missing",
    ),
    "no blobs": (
        lambda f: shutil.rmtree(f / "blobs"),
        IntegrityError,
        "blobs is missing",
    ),
    "no manifest": (
        lambda f: (f / "manifest.json").unlink(),
        NotFoundError,
        "not written by an export",
    ),
    "no folder": (shutil.rmtree, NotFoundError, "folder"),
    "manifest that is not JSON": (
        lambda f: (f / "manifest.json").write_text("[" * 100_000),
        InvalidInputError,
        r"manifest\.json is not JSON",
    ),
    "huge manifest": (
        lambda f: (f / "manifest.json").write_text(" " * (2 << 20)),
        InvalidInputError,
        "too large",
    ),
    "manifest of a newer version": (
        _manifest(version=2),
        InvalidInputError,
        "Install a newer one",
    ),
    "manifest of something else": (
        _manifest(format="other"),
        InvalidInputError,
        "format",
    ),
    "manifest that counts otherwise": (
        _manifest(documents=12),
        IntegrityError,
        "13 lines and not 12",
    ),
    "duplicate line": (
        lambda f: rewrite(f, [read_lines(f)[0], *read_lines(f)]),
        InvalidInputError,
        "line 2 holds the same document",
    ),
    "lines out of order": (
        lambda f: rewrite(f, read_lines(f)[::-1]),
        InvalidInputError,
        "line 2 is not in the order",
    ),
    "line that is not JSON": (
        lambda f: rewrite(f, [*read_lines(f)[:2], b'{"a": 1', *read_lines(f)[2:]]),
        InvalidInputError,
        "line 3 is not JSON",
    ),
    "deeply nested line": (
        lambda f: rewrite(f, [b"[" * 100_000, *read_lines(f)]),
        InvalidInputError,
        "line 1 is not JSON",
    ),
    "number of very many digits": (
        lambda f: rewrite(f, [b"9" * 10_000]),
        InvalidInputError,
        "line 1 is not JSON",
    ),
    "number out of range": (
        _change(b'"n":4', b'"n":1e999'),
        InvalidInputError,
        r"line \d+ is not JSON",
    ),
    "NaN": (_change(b'"n":4', b'"n":NaN'), InvalidInputError, r"line \d+ is not JSON"),
    "key given twice": (
        _change(b'"n":4', b'"n":4,"n":5'),
        InvalidInputError,
        r"line \d+ is not a line that",
    ),
    "line of something else": (
        lambda f: rewrite(f, [b'{"collection":"a"}']),
        InvalidInputError,
        "line 1 is not a line that an export writes",
    ),
    "changed document": (
        _change(b'"n":4', b'"n":5'),
        IntegrityError,
        r"line \d+: .* checksum",
    ),
    "document of another project": (
        _change(b'"collection":"project 0"', b'"collection":"project"'),
        InvalidInputError,
        "line 1: .*project",
    ),
    "document of a newer format": (
        lambda f: rewrite(
            f, [one.replace(b'"format":2', b'"format":9') for one in read_lines(f)]
        ),
        InvalidInputError,
        "line 1: .*newer",
    ),
    "number of more than 64 bits": (
        _line(2, lambda d: d["inputs"].update(n=2**63)),
        InvalidInputError,
        "line 2: .*64 bits",
    ),
    "half a surrogate pair": (
        _line(2, lambda d: d["inputs"].update(n="\ud800")),
        InvalidInputError,
        "line 2: .*surrogate",
    ),
    "key with a dollar": (
        _line(2, lambda d: d["inputs"].update({"$n": 1})),
        InvalidInputError,
        r"line 2: the key '\$n'",
    ),
    "blob of another size": (
        _line(1, lambda d: d["inputs"].update(_envelope(size=1))),
        IntegrityError,
        "line 1: the blob .* bytes and not 1",
    ),
    "blob that is not in the folder": (
        _line(1, lambda d: d["inputs"].update(_envelope(blob="0" * 64))),
        IntegrityError,
        "line 1: .*cannot be read",
    ),
}


def _envelope(**fields: object) -> dict[str, object]:
    digest = hashlib.sha256(np.zeros(20_000).tobytes()).hexdigest()
    return {"x": {"__lume__": "bytes", "v": 1, "blob": digest, "size": 1, **fields}}


@pytest.mark.parametrize("damage", DAMAGES)
def test_nothing_of_a_broken_folder_is_stored(make_service, exported, damage):
    """Whatever is wrong with a folder is named, and no document or blob is stored."""
    spoil, error, message = DAMAGES[damage]
    spoil(exported)
    other = make_service()
    with pytest.raises(error, match=message):
        import_results(other, exported)
    assert other.projects() == []
    assert other.db_service.blobs_before(other.db_service.now() + timedelta(1)) == []


def test_a_line_may_not_be_endless(make_service, exported):
    """A line past the limit is refused before it is read into memory."""
    rewrite(exported, [b"9" * (65 << 20)])
    with pytest.raises(InvalidInputError, match="line 1 is longer than 64 MiB"):
        import_results(make_service(), exported)


def test_blobs_that_name_each_other_are_read_once(make_service, exported):
    """A document whose JSON blobs hold one blob many times over is walked once."""
    lines = read_lines(exported)
    item = json.loads(lines[0])
    inner, size = item["document"]["outputs"]["array"], 0
    for _ in range(12):
        text = to_json([inner] * 1000).encode()
        digest = hashlib.sha256(text).hexdigest()
        path = exported / "blobs" / digest[:2] / digest
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text)
        size += len(text)
        inner = {"__lume__": "tree", "v": 1, "blob": digest, "size": len(text)}
    item["document"]["outputs"]["array"] = inner
    item["document"]["format"] = 1
    del item["document"]["_checksum"]
    rewrite(exported, [to_json(item).encode(), *lines[1:]])
    manifest = json.loads((exported / "manifest.json").read_text())
    _manifest(blobs=manifest["blobs"] + 12, blob_bytes=manifest["blob_bytes"] + size)(
        exported
    )
    other = make_service()
    assert import_results(other, exported).documents == 13
    assert other.db_service.unused_blobs(timedelta(0)) == []
