"""Damaged and hostile documents into the decoder, by the script in ``benchmarks``."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "fuzz_decoder.py"


def test_no_document_breaks_the_decoder():
    """5,000 damaged documents are decoded or refused; nothing else happens."""
    command = [sys.executable, SCRIPT, "--inputs", "5000", "--batch", "5000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    counts = {}
    for line in done.stdout.splitlines():
        words = line.split()
        if len(words) == 2 and words[0].isdecimal():
            counts[words[1]] = int(words[0])
    assert sum(counts.values()) == 5000
    assert counts["value"] > 300
    assert counts["DecodingError"] > 1000
    assert counts["IntegrityError"] > 100
