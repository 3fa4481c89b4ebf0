"""What storing and loading values costs: memory for large ones, time for small ones.

    python benchmarks/results_codecs.py [--size 1000] [--store]

Prints, for an array of ``--size`` megabytes (1 GB unless told otherwise), how many
copies of it are in memory at most, the original included, while it is encoded and
while it is decoded; with ``--store`` also through a real SQLite results database. Then
the time of ``to_document`` for a small result. Exit status 1 when a target is missed:
at most 2 copies (one more where the array has to be rearranged), 80 µs.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

#: Copies of the value at most, the value itself included.
COPIES = 2.0
#: Microseconds of ``to_document`` for a small result.
SMALL = 80.0
#: What the interpreter and its pools take beside copies, as a part of the value.
SLACK = 0.1
CASES = ("plain", "with NaN", "big-endian", "structured", "frame", "bytes")


def make(case: str, size: int) -> object:
    """Return a value of about ``size`` bytes."""
    import numpy as np

    count = size // 8
    if case == "bytes":
        return b"x" * size
    values = np.arange(count, dtype=">f8" if case == "big-endian" else "<f8")
    if case == "with NaN":
        values[::7] = np.nan
    if case == "structured":
        return values.view([("x", "<f8"), ("y", "<f8")])
    if case == "frame":
        import pandas as pd

        columns = {f"c{i}": part for i, part in enumerate(values.reshape(8, -1))}
        return pd.DataFrame(columns, copy=False)
    return values


def memory(key: str) -> int:
    """Return this process's memory in bytes: ``VmRSS`` now, ``VmHWM`` at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) << 10
    raise RuntimeError(f"no {key} in /proc/self/status")


def forget_peak() -> None:
    """Begin to measure the peak anew."""
    Path("/proc/self/clear_refs").write_text("5")


def measure(case: str, size: int) -> None:
    """Encode and decode one value here, and print the copies in memory."""
    import pyarrow as pa

    from prefect_lume.results.codecs import VerifiedLoader, decode, encode

    decode(encode(make(case, 8000)).tree)
    base = memory("VmRSS")
    value = make(case, size)
    forget_peak()
    start = time.perf_counter()
    encoded = encode(value)
    encoding, peak = time.perf_counter() - start, memory("VmHWM") - base
    tree = encoded.tree
    blobs = {digest: bytearray(blob) for digest, blob in encoded.blobs.items()}
    del value, encoded
    pa.default_memory_pool().release_unused()
    forget_peak()
    start = time.perf_counter()
    decode(tree, load_blob=VerifiedLoader(blobs.pop))
    decoding, loaded = time.perf_counter() - start, memory("VmHWM") - base
    report(peak / size, loaded / size, encoding, decoding)


def measure_store(case: str, size: int, folder: Path) -> None:
    """Store and load one value through SQLite, and print the copies in memory."""
    from prefect_lume.results import Result, ResultsService
    from prefect_lume.results.stores import SQLDBService
    from prefect_lume.storage.sql import get_engine

    store = SQLDBService(get_engine(f"sqlite:///{folder / 'results.db'}"))
    store.create_tables()
    service = ResultsService(store)
    service.load(service.store(Result(project_name="p", outputs={"x": make(case, 99)})))
    base = memory("VmRSS")
    result = Result(project_name="p", outputs={"x": make(case, size)})
    forget_peak()
    start = time.perf_counter()
    reference = service.store(result)
    storing, peak = time.perf_counter() - start, memory("VmHWM") - base
    del result
    forget_peak()
    start = time.perf_counter()
    service.load(reference)
    loading, loaded = time.perf_counter() - start, memory("VmHWM") - base
    report(peak / size, loaded / size, storing, loading)


def report(stored: float, loaded: float, storing: float, loading: float) -> None:
    """Print one line that :func:`main` reads again."""
    print(f"{stored:.2f} {loaded:.2f} {storing:.2f} {loading:.2f}")


def small() -> float:
    """Return the median processor time of ``to_document`` for a small result, in µs."""
    import numpy as np

    from prefect_lume.results import Result
    from prefect_lume.results.documents import to_document

    inputs = {
        "charge": 1e-9, "energy": 135e6, "particles": 10_000, "lattice": "gun.lat",
        "sigma_x": 0.5, "sigma_y": 0.25, "space_charge": True, "label": "first run",
        "seed": 1, "gun": {"phase": 12.5, "field": 48.0, "model": "sc"},
    }  # fmt: skip
    outputs = {
        "x": 0.1, "y": 1.25, "emittance": 2.5e-7, "lost": 13, "status": "ok",
        "norm_emit_x": 3.1e-7, "norm_emit_y": 3.2e-7, "energy": np.float64(5.5),
        "turns": 12, "note": "converged",
    }  # fmt: skip
    results = [
        Result(project_name="p", inputs={**inputs, "seed": seed}, outputs=outputs)
        for seed in range(2000)
    ]
    times = []
    for _ in range(7):
        start = time.process_time()
        for result in results:
            to_document(result)
        times.append((time.process_time() - start) / len(results) * 1e6)
    return statistics.median(times)


def copies(case: str, size: int, *more: str) -> tuple[float, float]:
    """Measure one case in a process of its own; return the copies in memory."""
    command = [sys.executable, __file__, "--case", case, "--size", str(size), *more]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    stored, loaded, storing, loading = map(float, text.split())
    print(
        f"{case:12} storing: {stored:.2f} copies, {storing:5.2f} s    "
        f"loading: {loaded:.2f} copies, {loading:5.2f} s"
    )
    return stored, loaded


def main() -> int:
    """Measure everything; return 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1000, help="megabytes")
    parser.add_argument("--store", action="store_true", help="through SQLite, too")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = options.size << 20
    if options.case and options.folder:
        measure_store(options.case, size, options.folder)
        return 0
    if options.case:
        measure(options.case, size)
        return 0
    print(f"A value of {options.size} MiB, encoded and decoded:")
    found = [copies(case, options.size) for case in CASES]
    if options.store:
        print("The same through a SQLite file:")
        for case in ("plain", "with NaN"):
            with tempfile.TemporaryDirectory() as folder:
                found.append(copies(case, options.size, "--folder", folder))
    took = small()
    print(f"to_document of a small result: {took:.0f} µs")
    most = max(max(pair) for pair in found)
    return int(most > COPIES + SLACK or took > SMALL)


if __name__ == "__main__":
    sys.exit(main())
