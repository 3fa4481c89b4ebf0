"""How a pipeline that runs over objects is recognised by whoever reads its runs.

:func:`prefect_lume.recorder.run_pipeline` makes one flow run for the pipeline and one
below it for each object. Prefect keeps their tags; nothing else is needed to tell what
each of them is, in this process or in another one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

#: The tag of the flow run that runs a pipeline over objects.
PIPELINE_TAG: Final = "lume-pipeline"
#: The tag of a flow run that works on one object begins so; its position follows.
OBJECT_TAG: Final = "lume-object:"
#: Parameters of the flow run of a pipeline: the flow that it runs, the objects, and
#: the flow's parameter that takes one of them.
PIPELINE_PARAMETER: Final = "pipeline"
OBJECTS_PARAMETER: Final = "objects"
NAME_PARAMETER: Final = "parameter"


def object_tag(index: int) -> str:
    """Return the tag of the flow run for the object at a position, from 0."""
    return f"{OBJECT_TAG}{index}"


def object_index(tags: Iterable[str]) -> int | None:
    """Return the position of the object that a flow run of these tags works on.

    Example:
        >>> object_index(["night", "lume-object:3"])
        3
    """
    for tag in tags:
        number = tag.removeprefix(OBJECT_TAG)
        if number != tag and number.isdecimal():
            return int(number)
    return None
