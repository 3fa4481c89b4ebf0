"""Flow-of-flows: YAML, Python or registry rows → specification → checked graph.

Nothing here knows Prefect: a specification names flows, a
:class:`SubflowSignature` says what is known of one, and :func:`validate` brings the
two together and reports everything that is wrong at once.
"""

from __future__ import annotations

from prefect_lume.composition.fields import slug
from prefect_lume.composition.fit import FILE_REFERENCE, MARK, RESULT_REFERENCE
from prefect_lume.composition.graph import (
    CompositionGraph,
    Edge,
    ExposedParameter,
    validate,
)
from prefect_lume.composition.lines import LineMap
from prefect_lume.composition.loader import dump_yaml, load_yaml, spec_from_mapping
from prefect_lume.composition.rows import (
    Composition,
    SubflowRow,
    composition_of,
    spec_from_rows,
    spec_to_rows,
)
from prefect_lume.composition.signature import (
    FLOW_RETURN,
    MISSING,
    ParameterSpec,
    SubflowSignature,
    from_parameter_schema,
    inline_refs,
)
from prefect_lume.composition.spec import (
    ComposingFlow,
    FlowOfFlowsSpec,
    MappedParameter,
    MapType,
)

__all__ = [
    "FILE_REFERENCE",
    "FLOW_RETURN",
    "MARK",
    "MISSING",
    "RESULT_REFERENCE",
    "ComposingFlow",
    "Composition",
    "CompositionGraph",
    "Edge",
    "ExposedParameter",
    "FlowOfFlowsSpec",
    "LineMap",
    "MapType",
    "MappedParameter",
    "ParameterSpec",
    "SubflowRow",
    "SubflowSignature",
    "composition_of",
    "dump_yaml",
    "from_parameter_schema",
    "inline_refs",
    "load_yaml",
    "slug",
    "spec_from_mapping",
    "spec_from_rows",
    "spec_to_rows",
    "validate",
]
