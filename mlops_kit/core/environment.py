"""Environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

# No telemetry; and threads that wait for one another spin but shortly: on cores that others use too, a fit of two
# threads took several times as long (bench/threads.py). OpenMP reads this when its library is loaded, with scikit-learn.
DEFAULT_ENVIRONMENT_VARIABLES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GOMP_SPINCOUNT": "1000",
}
