"""The command line: ``mlops VERB``. Importing the package registers the commands of every module."""

from mlops_kit.cli import (
    model_commands,
    pipeline_commands,
    project_commands,
    run_commands,
    service_commands,
)
from mlops_kit.cli.application import app, main

__all__ = [
    "app",
    "main",
    "model_commands",
    "pipeline_commands",
    "project_commands",
    "run_commands",
    "service_commands",
]
