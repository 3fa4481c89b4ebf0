"""How long importing the package and asking for help take.

Run: ``python benchmarks/startup.py``. Prints the median over 15 runs of: the
bare interpreter, ``import prefect_lume``, and ``prefect-lume --help``; the import's
figure is what it adds to the interpreter. Exit status 1 when a target is missed.
"""

import statistics
import subprocess
import sys
import time

RUNS = 15
TARGETS = {"import prefect_lume": 0.050, "prefect-lume --help": 0.5}


def seconds(*command: str) -> float:
    """Return the wall time of one run of a command."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    """Measure in turn, so that the machine's drift meets all alike."""
    python = sys.executable
    commands = {
        "interpreter": (python, "-c", "pass"),
        "import prefect_lume": (python, "-c", "import prefect_lume"),
        "prefect-lume --help": (python, "-m", "prefect_lume.cli", "--help"),
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for command in commands.values():
        seconds(*command)
    for _ in range(RUNS):
        for name, command in commands.items():
            times[name].append(seconds(*command))
    median = {name: statistics.median(values) for name, values in times.items()}
    median["import prefect_lume"] -= median["interpreter"]
    missed = 0
    for name, value in median.items():
        target = TARGETS.get(name)
        note = f"  (target {target * 1000:.0f} ms)" if target else ""
        print(f"{name:22} {value * 1000:8.1f} ms{note}")
        missed += target is not None and value > target
    loaded = subprocess.run(
        (python, "-c", "import prefect_lume, sys; print(*sys.modules)"),
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    heavy = {"prefect", "numpy", "pandas", "pydantic", "sqlalchemy"} & set(loaded)
    print(f"loaded with it: {', '.join(sorted(heavy)) or 'nothing heavy'}")
    return 1 if missed or heavy else 0


if __name__ == "__main__":
    sys.exit(main())
