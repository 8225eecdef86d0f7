"""The root of the repository, and an environment without the caller's settings."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SETTING_PREFIXES = ("MLOPS_", "MLFLOW_")


def make_clean_environment() -> dict[str, str]:
    """Return the caller's environment variables without settings of mlops-kit and MLflow."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(SETTING_PREFIXES)
    }
