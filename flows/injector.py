"""The injector's flow-of-flows as one deployable parent flow."""

from pathlib import Path

from prefect_lume import FlowOfFlows

_YAML = Path(__file__).parents[1] / "examples" / "injector" / "injector.yaml"

chain = FlowOfFlows.from_yaml(
    _YAML,
    flows={
        "generate": "lume_injector.flow:generate",
        "transport": "lume_injector.flow:transport",
        "analyse": "lume_injector.flow:analyse",
    },
)
parent = chain.compose("parent")
