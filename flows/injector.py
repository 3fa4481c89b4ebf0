"""The injector's flow-of-flows as one deployable parent flow."""

import sys
from pathlib import Path

from prefect_lume import FlowOfFlows

_EXAMPLE = Path(__file__).parents[1] / "examples" / "injector"
# The package beside this file: an installed one of another version would do as well.
sys.path.insert(0, str(_EXAMPLE))

chain = FlowOfFlows.from_yaml(
    _EXAMPLE / "injector.yaml",
    flows={
        "generate": "lume_injector.flow:generate",
        "transport": "lume_injector.flow:transport",
        "analyse": "lume_injector.flow:analyse",
    },
)
parent = chain.compose("parent")
