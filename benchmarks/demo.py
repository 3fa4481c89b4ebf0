"""How long the demo takes, and how much memory it needs.

Run: ``python benchmarks/demo.py``. Runs ``prefect-lume demo`` in an empty home (cold:
Prefect makes its own database first), then three times more there, and prints each
run's wall time and peak memory (the largest single process). Exit status 1 when a warm
run takes over 60 s, or any process over 500 MB.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time

SECONDS, MEGABYTES = 60, 500


def run(home: str) -> tuple[float, float]:
    """Run the demo once; return seconds, and the peak memory so far in MB."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": home, "DO_NOT_TRACK": "1"}
    start = time.perf_counter()
    subprocess.run(
        (sys.executable, "-m", "prefect_lume.cli", "demo"),
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
    return time.perf_counter() - start, peak


def main() -> int:
    """Measure one cold and three warm runs."""
    with tempfile.TemporaryDirectory() as home:
        cold, _ = run(home)
        print(f"cold  {cold:6.1f} s")
        warm = []
        for _ in range(3):
            seconds, peak = run(home)
            warm.append(seconds)
            print(f"warm  {seconds:6.1f} s")
        print(f"peak  {peak:6.0f} MB  (target {MEGABYTES} MB; warm {SECONDS} s)")
    return int(max(warm) > SECONDS or peak > MEGABYTES)


if __name__ == "__main__":
    sys.exit(main())
