"""A photoinjector beamline as a model package: make a bunch, transport it, analyse it.

Importing this package loads nothing else. The physics is in
:mod:`lume_injector.beam`, :mod:`lume_injector.lattice`,
:mod:`lume_injector.analysis` and :mod:`lume_injector.plotting`, the Prefect flows in
:mod:`lume_injector.flow`, the model without Prefect in :mod:`lume_injector.model`.
"""

__version__ = "0.1.0"
