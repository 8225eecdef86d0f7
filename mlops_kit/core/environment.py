"""Environment variables that every process of the package sets before it loads heavy libraries."""

from __future__ import annotations

# MLflow and others send telemetry unless told not to. OpenMP threads that wait for one another
# spin by default: on cores that are shared with other processes, a fit with two threads took
# several times as long (bench/threads.py). OpenMP reads its variable when scikit-learn loads it.
DEFAULT_ENVIRONMENT_VARIABLES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GOMP_SPINCOUNT": "1000",
}
