"""Feed damaged and hostile documents to the decoder, and report what breaks it.

    python benchmarks/fuzz_decoder.py --inputs 100000 --seed 1

Each input is a golden document with some places changed (values, types, dtypes, shapes,
payloads with a right hash, blobs, nesting, codecs), or random JSON. It may be decoded
to a value or refused with an error of this package. Anything else is a finding: another
exception, a crash, more than a second of work, memory far beyond the input's size, a
module that is imported, code that is run, a file that is written.

Inputs are decoded in a process of its own, so that a crash is noticed and the rest goes
on. Input number n of a seed is always the same: ``--only n`` runs it alone.
"""

from __future__ import annotations

import argparse
import base64
import copy
import json
import marshal
import random
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path

from prefect_lume._fingerprint import sha256_bytes
from prefect_lume.errors import LumeError, NotFoundError
from prefect_lume.results.codecs import Lazy, VerifiedLoader
from prefect_lume.results.codecs.registry import CODECS
from prefect_lume.results.codecs.times import find_zone
from prefect_lume.results.documents import from_document, resolve_model_docs

GOLDEN = Path(__file__).parents[1] / "tests" / "unit" / "results" / "golden"
#: More of the processor's time is slow, ten times as much by the clock is a hang.
SECONDS = 1.0
#: Decoding may take so many bytes more than the input has.
SPARE = 64 << 20
#: The address space that decoding may grow by.
ADDRESSES = 2 << 30
TOO_MUCH = "asked for too much memory"
#: Events that decoding must never cause (of Python's audit hooks).
FORBIDDEN = {
    "compile", "exec", "import", "marshal.loads", "os.exec", "os.fork", "os.remove",
    "os.rename", "os.spawn", "os.system", "pickle.find_class", "socket.connect",
    "subprocess.Popen", "ctypes.dlopen", "shutil.rmtree",
}  # fmt: skip

TEXTS = [
    "", "x", "a.b", "a%2Eb", "$where", "__lume__", "\ud800", "\0", "../../etc/passwd",
    "nan", "inf", "1e999999", "9" * 400, "0x" + "f" * 5000, "-0x0", "sNaN", "os.system",
    "2024-01-01", "2024-01-01T00:00:00.000000", "2024-01-01T00:00:00.000000Z",
    "9999-12-31T23:59:59.999999", "Europe/Berlin", "../../etc/hosts", "UTC", "ns", "us",
    "NaT", "NA", "posix", "windows", "numpy", "object", "category", "masked", "arrow",
    "period", "interval", "string", "datetime", "range", "flat", "multi", "both",
    "D", "999999999D", "QE-DEC", "Int64", "boolean", "python", "pyarrow", "str",
    "meter ** 999999999", "meter * meter", "9 ** 9 ** 9 ** 9", "degC ** 2", "__class__",
    "second ** -0.5", "kilokilometer", "numpy.ndarray", "2d41402abc4b2a76", "f" * 64,
    "é" * 300, "00000000-0000-0000-0000-000000000005",
]  # fmt: skip
DTYPES = [
    "<f8", ">f8", "<f2", "|b1", "|u1", "<i8", ">i4", "<c16", "<U1", "<U999999999",
    "|S0", "|S3", "|V4", "|V999999999", "<M8[ns]", ">M8[999999999s]", "<m8", "<M8",
    "<M8[0ns]", "<f16/x87", "<c32/x87", "<f16/quad", "|O", "O", "<f8,<f8",
    "(9999,9999)f8", "f8", "T", "<U", "object",
    {"names": ["a", "b"], "formats": ["<f4", ">i2"]},
    {"names": ["a", "a"], "formats": ["<f4", ">i2"]},
    {"names": [""], "formats": ["<f4"]},
    {"names": ["a"], "formats": ["<f4"], "titles": ["a"]},
    {"names": ["a"], "formats": ["<f4"], "titles": ["b"], "align": True},
    {"base": "<f8", "shape": [10**6]}, {"base": "<f8", "shape": []},
    {"base": "<f8", "shape": [2**31]},
    {"base": {"base": "<i2", "shape": [2]}, "shape": [2]},
]  # fmt: skip
NUMBERS = [
    0, 1, -1, 2, 3, 7, 127, 128, 255, 65536, 10**6, 10**9, 2**31, 2**32, 2**53, 2**62,
    2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**40, 0.0, -0.0, 0.5, 1e308, 5e-324,
    float("nan"), float("inf"), True, False, None,
]  # fmt: skip
SHAPES = [
    [], [0], [1], [2, 3], [0, 2**61], [2**61, 0], [2**62, 2**62], [-1], [1.0], [True],
    [1] * 64, [1] * 65, [2**31, 2**31], [10**9], [1, 10**9, 0], "3", {},
]  # fmt: skip


def corpus() -> list[tuple[dict, dict[str, bytes]]]:
    """Return the golden documents and their blobs."""
    found = []
    for path in sorted(GOLDEN.glob("*.json")):
        stored = json.loads(path.read_text(encoding="utf-8"))
        blobs = {key: base64.b64decode(text) for key, text in stored["blobs"].items()}
        document = stored["document"]
        found.append((document, blobs))
        # One value alone is mutated more thoroughly than one among many.
        for field in ("inputs", "outputs", "config"):
            for name, value in document.get(field, {}).items():
                if isinstance(value, dict | list):
                    found.append(({**document, field: {name: value}}, blobs))
    outline = {**found[0][0], "inputs": {}}
    found.extend(({**outline, "outputs": {"x": tree}}, {}) for tree in hostile())
    return found


def hostile() -> list[dict]:
    """Return envelopes that no encoder writes, for few bytes with much behind them."""
    import pyarrow as pa
    import pyarrow.ipc

    def stream(column: pa.Array, compression: str | None = None) -> bytes:
        table, sink = pa.table({"a": column}), pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_table(table)
        return sink.getvalue().to_pybytes()

    def table(column: pa.Array, compression: str | None = None) -> dict:
        data = stream(column, compression)
        return {
            "__lume__": "arrow-table", "v": 1, "rows": len(column), "columns": ["a"],
            "data": base64.b64encode(data).decode(), "sha256": sha256_bytes(data),
        }  # fmt: skip

    def steps(stop: int) -> dict:
        ends = {"start": 0, "stop": stop, "step": 1}
        kind = {"kind": "range", "name": None, "dtypes": []}
        return {"__lume__": "index", "v": 1, **kind, **ends}

    zeros = pa.array([0] * 1000)
    nested = pa.ListArray.from_arrays([0, 2, 3], pa.array(["a", "b", None]))
    columns = [
        pa.nulls(3), pa.nulls(10**9), nested, pa.array([{"a": 1, "b": None}, None]),
        pa.FixedSizeListArray.from_arrays(pa.nulls(6), 3), pa.array([b"ab", None]),
        pa.DictionaryArray.from_arrays(pa.array([0, 1, 0], pa.int8()), ["x" * 50, "y"]),
        pa.array([Decimal("1.50")]), pa.array([True, None]),
        pa.array([{}], pa.struct([])), pa.array([b"abc"], pa.binary(3)),
        pa.array([0], pa.timestamp("us", "Asia/Tokyo")),
    ]  # fmt: skip
    ranges = {"kind": "multi", "levels": [steps(10**9), steps(10**9)], "dtypes": []}
    interval = {
        "kind": "interval",
        "closed": "left",
        "left": steps(3),
        "right": steps(3),
    }
    return [
        *map(table, columns),
        *(table(zeros, how) for how in ("zstd", "lz4")),
        {"__lume__": "index", "v": 1, **ranges},
        {"__lume__": "series", "v": 1, "name": None, "index": steps(3),
         "dtypes": [interval]},
        {"__lume__": "dataframe", "v": 1, "rows": 10**12, "index": steps(10**12),
         "columns": steps(0), "dtypes": []},
    ]  # fmt: skip


class Mutator:
    """Makes one damaged document of a golden one."""

    def __init__(
        self, documents: list[tuple[dict, dict[str, bytes]]], seed: str
    ) -> None:
        self.documents = documents
        self.source = random.Random(seed)
        self.blobs: dict[str, bytes] = {}

    def make(self) -> tuple[dict, dict[str, bytes]]:
        """Return a document, and the blobs that can be loaded."""
        if self.source.random() < 0.08:
            value = self.json(0)
            return {**self.documents[0][0], "outputs": {"x": value}}, {}
        document, blobs = self.source.choice(self.documents)
        tree, self.blobs = marshal.loads(marshal.dumps(document)), dict(blobs)
        for _ in range(self.source.choice([1, 1, 1, 2, 2, 3, 5])):
            try:
                self.mutate(tree)
            except RecursionError:  # Wrapped twice: too deep to be copied here.
                break
        return tree, self.blobs

    def mutate(self, tree: dict) -> None:
        """Change one place of a tree."""
        choose = self.source
        spots = list(places(tree))
        payloads = [
            part for part, key in spots if isinstance(part, dict) and key in PAYLOADS
        ]
        if payloads and choose.random() < 0.45:
            self.payload(choose.choice(payloads))
            return
        if choose.random() < 0.1:
            self.renamed(tree)
            return
        part, key = choose.choice(spots)
        changes = [self.replace, self.change, self.change, self.move, self.borrow]
        choose.choice(changes)(part, key, spots)

    def replace(self, part: dict | list, key: object, spots: list) -> None:
        """Put another value there, or none, or one more."""
        change = self.source.random()
        if change < 0.6:
            part[key] = self.piece(key)
        elif change < 0.85 or isinstance(part, list):
            del part[key]
        else:
            part[self.source.choice(FIELDS)] = self.piece("")

    def change(self, part: dict | list, key: object, spots: list) -> None:
        """Make another value of the one that is there."""
        choose, value = self.source, part[key]
        if isinstance(value, str) and value:
            part[key] = self.text(value)
        elif type(value) is int:
            part[key] = value + choose.choice([-1, 1, 2, 10**9, -(10**9), 2**40])
        elif isinstance(value, list) and choose.random() < 0.5:
            part[key] = value * choose.choice([0, 2, 3])
        else:
            part[key] = self.wrapped(value)

    def move(self, part: dict | list, key: object, spots: list) -> None:
        """Put a value of another place there."""
        other, place = self.source.choice(spots)
        part[key] = copy.deepcopy(other[place])

    def borrow(self, part: dict | list, key: object, spots: list) -> None:
        """Put a value of another document there."""
        document, blobs = self.source.choice(self.documents)
        self.move(part, key, list(places(document)))
        self.blobs |= blobs

    def piece(self, key: object) -> object:
        """Return some other value for a field."""
        choose = self.source
        if key in {"dtype", "formats", "base"} and choose.random() < 0.7:
            return copy.deepcopy(choose.choice(DTYPES))
        if key == "shape" and choose.random() < 0.7:
            return copy.deepcopy(choose.choice(SHAPES))
        pools = (TEXTS, NUMBERS, DTYPES, SHAPES, [[], {}, [[]], [{}]])
        return copy.deepcopy(choose.choice(choose.choice(pools)))

    def text(self, text: str) -> str:
        choose, place = self.source, self.source.randrange(len(text))
        return choose.choice(
            [text[:place], text + text, text[:place] + "\U0001f642" + text[place + 1 :]]
        )

    def wrapped(self, value: object) -> object:
        """Return a value inside others, up to very many."""
        choose = self.source
        if choose.random() < 0.2:
            levels = choose.choice([1, 60, 300, 1100, 100_000])
            deep = b"[" * levels + b"1" + b"]" * levels
            return self.blob({"__lume__": "tree", "v": 1}, deep)
        kind, levels = choose.randrange(4), choose.choice([1, 2, 50, 190, 230])
        for _ in range(levels):
            if kind == 0:
                value = [value]
            elif kind == 1:
                value = {"a": value}
            elif kind == 2:
                value = {"__lume__": "tuple", "v": 1, "items": [value]}
            else:
                value = {"base": value, "shape": [1]}
        if choose.random() < 0.2:
            data = json.dumps(value).encode()
            return self.blob({"__lume__": "tree", "v": 1}, data)
        return value

    def renamed(self, tree: dict) -> None:
        """Give some envelope another codec or version."""
        choose = self.source
        found = [
            part
            for part, key in places(tree)
            if key == "__lume__" and isinstance(part, dict)
        ]
        if found:
            part = choose.choice(found)
            if choose.random() < 0.2:
                part["v"] = choose.choice(NUMBERS)
            else:
                names = [*CODECS, "dict", "model", "pickle", "nope"]
                part["__lume__"] = choose.choice(names)

    def payload(self, part: dict) -> None:
        """Change the bytes of an envelope; its hash fits them mostly."""
        choose = self.source
        if isinstance(part.get("blob"), str):
            data = self.blobs.get(part["blob"], b"")
        else:
            try:
                data = base64.b64decode(str(part.get("data", "")))
            except ValueError:
                data = b""
        data = self.bytes(data)
        if "blob" in part or choose.random() < 0.2:
            part.pop("data", None)
            part.pop("sha256", None)
            self.blob(part, data)
        else:
            part["data"] = base64.b64encode(data).decode()
            part["sha256"] = sha256_bytes(data)
        if choose.random() < 0.05:
            key = choose.choice(list(part))
            part[key] = self.piece(key)

    def blob(self, part: dict, data: bytes) -> dict:
        digest = sha256_bytes(data)
        size = len(data) if self.source.random() < 0.95 else len(data) + 1
        part.update(blob=digest, size=size)
        if self.source.random() < 0.97:
            self.blobs[digest] = data
        return part

    def bytes(self, data: bytes) -> bytes:
        """Return bytes with some of them changed."""
        choose, held = self.source, bytearray(data)
        for _ in range(choose.choice([1, 1, 2, 4, 16])):
            if not held:
                return choose.randbytes(choose.choice([0, 1, 8, 64]))
            place = choose.randrange(min(len(held), choose.choice([256, 2048, 10**9])))
            change = choose.random()
            if change < 0.35:
                held[place] ^= 1 << choose.randrange(8)
            elif change < 0.5:
                held[place] = choose.choice([0, 1, 127, 128, 255])
            elif change < 0.8:
                place -= place % 4
                width = choose.choice([4, 8])
                number = choose.choice(WORDS) % (1 << 8 * width)
                held[place : place + width] = number.to_bytes(width, "little")
            elif change < 0.87:
                del held[place:]
            elif change < 0.94:
                del held[place : place + choose.choice([1, 8, 64])]
            else:
                end = place + choose.choice([1, 8, 64])
                held[place:place] = held[place:end] * choose.choice([1, 3])
        return bytes(held)

    def json(self, depth: int) -> object:
        """Return random JSON."""
        choose = self.source
        kind = choose.random()
        if depth > 5 or kind < 0.4:
            return self.piece("")
        if kind < 0.6:
            return [self.json(depth + 1) for _ in range(choose.randrange(4))]
        keys = choose.sample(FIELDS, choose.randrange(6))
        tree = {key: self.json(depth + 1) for key in keys}
        if choose.random() < 0.8:
            tree |= {"__lume__": choose.choice(list(CODECS)), "v": 1}
        return tree


PAYLOADS = {"data", "blob"}
FIELDS = [
    "__lume__", "v", "data", "blob", "sha256", "size", "content", "value", "items",
    "dtype", "shape", "rows", "columns", "index", "dtypes", "attrs", "name", "kind",
    "levels", "freq", "start", "stop", "step", "zone", "offset", "utc", "naive",
    "fold", "unit", "real", "imag", "flavour", "days", "seconds", "microseconds",
    "dims", "values", "variable", "variables", "coords", "indexes", "stacked",
    "magnitude", "units", "path", "x", "",
]  # fmt: skip
WORDS = [
    0, 1, 2, 3, 4, 8, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62,
    2**63 - 1, 2**63, 2**64 - 1, 0x7FF8000000000000,
]  # fmt: skip


def places(tree: object) -> list[tuple[dict | list, object]]:
    """Return every (container, key) of a tree."""
    found: list[tuple[dict | list, object]] = []
    pending = [tree]
    while pending:
        part = pending.pop()
        items = part.items() if isinstance(part, dict) else enumerate(part)
        for key, item in items:
            found.append((part, key))
            if isinstance(item, dict | list) and item:
                pending.append(item)
    return found


class Watch:
    """Notices what decoding must not do."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.on = False
        # Python 3.13 imports a hash when first seeded with text: that is ours.
        random.Random("text")
        self.modules = set(sys.modules)
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple) -> None:
        if not self.on:
            return
        if event == "open":
            mode = arguments[1] if len(arguments) > 1 else "r"
            if isinstance(mode, str) and set(mode) & set("wax+"):
                self.events.append(f"open {arguments[:2]}")
        elif event in FORBIDDEN:
            self.events.append(f"{event} {str(arguments)[:120]}")

    def imported(self) -> set[str]:
        """Return the modules that are new since the last call."""
        if len(sys.modules) == len(self.modules):
            return set()
        new = set(sys.modules) - self.modules
        self.modules |= new
        return new


class Hang(BaseException):
    """Decoding takes too long."""


def decode_one(
    document: dict, blobs: dict[str, bytes], choose: random.Random, docs: dict
) -> str:
    """Decode a document as a service does, and return what came of it."""
    load = {key: bytearray(data) for key, data in blobs.items()}

    def get_blob(digest: str) -> bytearray:
        if digest not in load:
            raise NotFoundError("blob", digest)
        return load[digest]

    lazy = choose.random() < 0.25
    try:
        loader = VerifiedLoader(get_blob) if choose.random() < 0.5 else get_blob
        found = from_document(document, docs, loader, lazy=lazy)
        if lazy:
            for value in [*found.inputs.values(), *found.outputs.values()]:
                if isinstance(value, Lazy):
                    value.load()
        if choose.random() < 0.5:
            found.verify()
    except LumeError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, MemoryError):
                return TOO_MUCH
            cause = cause.__cause__
        return type(error).__name__
    return "value"


def resident(key: str) -> int:
    """Return this process's memory in bytes: ``VmRSS`` now, ``VmHWM`` at most."""
    with Path("/proc/self/status").open() as file:
        for line in file:
            if line.startswith(key):
                return int(line.split()[1]) << 10
    raise RuntimeError(f"no {key}")


def fuzz(numbers: range | list[int], seed: int, *, tell: bool = False) -> Counter[str]:
    """Decode inputs in this process, and count what came of them.

    Args:
        numbers: Which inputs.
        seed: The seed of all.
        tell: Print the number of each input before it is decoded, and findings.

    Returns:
        What came of how many. Keys that begin with "FOUND" are findings.
    """
    warnings.simplefilter("ignore")
    documents, docs = corpus(), resolve_model_docs()
    for document, blobs in documents:
        decode_one(document, blobs, random.Random(0), docs)
        decode_one(document, blobs, random.Random(1), docs)
    find_zone("Nowhere/Else")
    watch, counts = Watch(), Counter[str]()

    def expire(*_: object) -> None:
        raise Hang

    signal.signal(signal.SIGALRM, expire)
    for number in numbers:
        if tell:
            print(number, flush=True)
        mutator = Mutator(documents, f"{seed}:{number}")
        document, blobs = mutator.make()
        decode = partial(decode_one, document, blobs, mutator.source, docs)
        outcome, found = observed(decode, watch, sum(map(len, blobs.values())))
        counts["finding" if found else outcome] += 1
        for finding in found:
            counts[finding] += 1
            if tell:
                print(f"{finding} (input {number})", flush=True)
    return counts


def observed(
    decode: Callable[[], str], watch: Watch, size: int
) -> tuple[str, list[str]]:
    """Return what came of decoding one input, and what is wrong with that."""
    Path("/proc/self/clear_refs").write_text("5")
    before, start = resident("VmRSS"), time.perf_counter()
    signal.setitimer(signal.ITIMER_REAL, 10 * SECONDS)
    watch.on, found, outcome = True, [], ""
    try:
        outcome = decode()
    except Hang:
        found.append("FOUND hang")
    except Exception as error:  # noqa: BLE001 - which is what is looked for
        found.append(f"FOUND {type(error).__name__}: {str(error)[:150]}")
    watch.on = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    took, grown = time.perf_counter() - start, resident("VmHWM") - before
    if outcome == TOO_MUCH:
        found.append(f"FOUND {TOO_MUCH}")
    if took > SECONDS and not found:
        start = time.process_time()  # The clock counts other processes, too.
        decode()
        took = time.process_time() - start
    if took > SECONDS:
        found.append(f"FOUND slow: {took:.1f} s")
    if grown > SPARE + 8 * size:
        found.append(f"FOUND memory: {grown >> 20} MiB")
    if new := watch.imported():
        found.append(f"FOUND imports: {sorted(new)[:5]}")
    found.extend(f"FOUND {event}" for event in watch.events)
    watch.events.clear()
    return outcome, found


def child(first: int, last: int, seed: int) -> None:
    """Decode some inputs with bounded memory, and print what came of them."""
    corpus()
    fuzz([], seed)
    in_use = (
        int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    )
    resource.setrlimit(resource.RLIMIT_AS, (in_use + ADDRESSES,) * 2)
    counts = fuzz(range(first, last), seed, tell=True)
    print("COUNTS " + json.dumps(counts), flush=True)


def run(inputs: int, seed: int, batch: int) -> int:
    """Run all inputs in child processes; return the number of findings."""
    total, findings, first = Counter[str](), 0, 0
    start = time.perf_counter()
    while first < inputs:
        last = min(first + batch, inputs)
        command = [sys.executable, __file__, "--child", f"{first}:{last}:{seed}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        current, done = first, False
        for line in process.stdout:
            if line.startswith("COUNTS "):
                total.update(json.loads(line[7:]))
                done = True
            elif line.startswith("FOUND"):
                print(line.strip())
                findings += 1
            else:
                current = int(line)
        process.wait()
        if not done:
            print(f"FOUND crash, exit code {process.returncode} (input {current})")
            findings += 1
            total["crash"] += 1
            last = current + 1
        first = last
        rate = first / (time.perf_counter() - start)
        print(f"# {first} inputs, {findings} findings, {rate:.0f} inputs/s", flush=True)
    for outcome, count in total.most_common():
        if not outcome.startswith("FOUND"):
            print(f"{count:8} {outcome}")
    print(f"{inputs} inputs (seed {seed}), {findings} findings")
    return findings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", type=int, default=10_000)
    parser.add_argument("--only", type=int, help="run this input alone, and show it")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*map(int, options.child.split(":")))
    elif options.only is not None:
        document, blobs = Mutator(corpus(), f"{options.seed}:{options.only}").make()
        print(json.dumps(document)[:20_000], {key: len(blobs[key]) for key in blobs})
        print(fuzz([options.only], options.seed))
    else:
        sys.exit(bool(run(options.inputs, options.seed, options.batch)))


if __name__ == "__main__":
    main()
