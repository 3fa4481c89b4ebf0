"""``python -m prefect_lume.cli``: the same as ``prefect-lume``."""

from prefect_lume.cli._main import main

main()
