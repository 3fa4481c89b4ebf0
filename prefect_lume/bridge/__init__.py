"""To and from MLflow: its registry's models and versions, and results in its runs.

MLflow is optional (``pip install 'prefect-lume[mlflow]'``) and is only talked to: no
model of it is loaded, and none of its code is run.
"""

from prefect_lume.bridge.importing import MlflowImport, import_mlflow_registry
from prefect_lume.bridge.logging_results import log_result

__all__ = ["MlflowImport", "import_mlflow_registry", "log_result"]
