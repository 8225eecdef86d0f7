"""mlops-kit: the life of a model in seven notebooks.

``mlops_kit.open()`` opens the project in the current folder: run it, read its results, predict with
its champion. A notebook of a stage begins with ``from mlops_kit import explore, open_stage``, and a
plugin with ``from mlops_kit import register_metric`` or another of the ``register_`` functions.

The names in ``__all__`` are the public interface; of the modules among them, the names in their own
``__all__``. Everything else may change without notice. Importing this package does nothing and
loads nothing heavy; the public names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame

    from mlops_kit.client import ProjectClient
    from mlops_kit.core import charts
    from mlops_kit.core.errors import (
        KitError,
        NotAllowedError,
        RunFailedError,
        WaitingForApprovalError,
    )
    from mlops_kit.core.results import (
        CheckOutcome,
        CheckSeverity,
        Figure,
        Interval,
        KeyNumber,
        KeyNumbers,
        Table,
        Verdict,
        Verdicts,
    )
    from mlops_kit.dashboards import monitoring_page, review_page
    from mlops_kit.dashboards.panels import PanelContext, register_dashboard_panel
    from mlops_kit.data import features
    from mlops_kit.data.columns import list_feature_columns
    from mlops_kit.data.datasets import locate_nycflights_file
    from mlops_kit.data.joining import JoinedFile, join_files
    from mlops_kit.data.readers import register_reader
    from mlops_kit.project.config.root import ProjectConfig
    from mlops_kit.project.loader import Project
    from mlops_kit.registry import comparison, scoring, versions
    from mlops_kit.stages import deploy, explore, monitor, prepare, retrain, review, train
    from mlops_kit.stages.monitor.drift_tests import DriftTestResult, register_drift_test
    from mlops_kit.stages.monitor.incidents import IncidentSeverity
    from mlops_kit.stages.monitor.joint_cost import JointCost
    from mlops_kit.stages.monitor.joint_drift import JointDrift
    from mlops_kit.stages.monitor.reference_performance import ReferencePerformance
    from mlops_kit.stages.retrain.policy import (
        RetrainingAction,
        RetrainingDecision,
        RetrainingEvidence,
        RuleResult,
        RuleRole,
        register_retraining_rule,
    )
    from mlops_kit.stages.review.checks import make_verdict, register_check
    from mlops_kit.stages.review.evidence import CalibrationBins, RefitAgreement, ReviewEvidence
    from mlops_kit.stages.stage import Stage, open_stage
    from mlops_kit.stages.train.families import (
        ParameterRange,
        build_model_pipeline,
        register_model_family,
    )
    from mlops_kit.stats.metrics import compute_metric, register_metric
    from mlops_kit.stats.refit_agreement import ReferenceRefit
    from mlops_kit.watch.alert_message import Alert
    from mlops_kit.watch.alert_sinks import register_alert_sink
    from mlops_kit.watch.records import WindowMonitoring, WindowPerformance
    from mlops_kit.watch.signals import SignalTime, WindowEvidence, register_incident_signal

__version__ = "0.1.0"
__all__ = [
    "Alert",
    "CalibrationBins",
    "CheckOutcome",
    "CheckSeverity",
    "DriftTestResult",
    "Figure",
    "IncidentSeverity",
    "Interval",
    "JoinedFile",
    "JointCost",
    "JointDrift",
    "KeyNumber",
    "KeyNumbers",
    "KitError",
    "NotAllowedError",
    "PanelContext",
    "ParameterRange",
    "Project",
    "ProjectClient",
    "ProjectConfig",
    "ReferencePerformance",
    "ReferenceRefit",
    "RefitAgreement",
    "RetrainingAction",
    "RetrainingDecision",
    "RetrainingEvidence",
    "ReviewEvidence",
    "RuleResult",
    "RuleRole",
    "RunFailedError",
    "SignalTime",
    "Stage",
    "Table",
    "Verdict",
    "Verdicts",
    "WaitingForApprovalError",
    "WindowEvidence",
    "WindowMonitoring",
    "WindowPerformance",
    "__version__",
    "build_model_pipeline",
    "charts",
    "comparison",
    "compute_metric",
    "deploy",
    "explore",
    "features",
    "join_files",
    "list_feature_columns",
    "locate_nycflights_file",
    "make_verdict",
    "monitor",
    "monitoring_page",
    "new",
    "open",
    "open_stage",
    "prepare",
    "register_alert_sink",
    "register_check",
    "register_dashboard_panel",
    "register_drift_test",
    "register_incident_signal",
    "register_metric",
    "register_model_family",
    "register_reader",
    "register_retraining_rule",
    "retrain",
    "review",
    "review_page",
    "scoring",
    "train",
    "versions",
]

# The module of each public name, and the public modules themselves.
_MODULES_BY_NAME = {
    "ProjectClient": "mlops_kit.client",
    "KitError": "mlops_kit.core.errors",
    "NotAllowedError": "mlops_kit.core.errors",
    "RunFailedError": "mlops_kit.core.errors",
    "WaitingForApprovalError": "mlops_kit.core.errors",
    "CheckOutcome": "mlops_kit.core.results",
    "CheckSeverity": "mlops_kit.core.results",
    "Figure": "mlops_kit.core.results",
    "Interval": "mlops_kit.core.results",
    "KeyNumber": "mlops_kit.core.results",
    "KeyNumbers": "mlops_kit.core.results",
    "Table": "mlops_kit.core.results",
    "Verdict": "mlops_kit.core.results",
    "Verdicts": "mlops_kit.core.results",
    "PanelContext": "mlops_kit.dashboards.panels",
    "register_dashboard_panel": "mlops_kit.dashboards.panels",
    "list_feature_columns": "mlops_kit.data.columns",
    "locate_nycflights_file": "mlops_kit.data.datasets",
    "JoinedFile": "mlops_kit.data.joining",
    "join_files": "mlops_kit.data.joining",
    "register_reader": "mlops_kit.data.readers",
    "ProjectConfig": "mlops_kit.project.config.root",
    "Project": "mlops_kit.project.loader",
    "DriftTestResult": "mlops_kit.stages.monitor.drift_tests",
    "register_drift_test": "mlops_kit.stages.monitor.drift_tests",
    "IncidentSeverity": "mlops_kit.stages.monitor.incidents",
    "JointCost": "mlops_kit.stages.monitor.joint_cost",
    "RetrainingAction": "mlops_kit.stages.retrain.policy",
    "RetrainingDecision": "mlops_kit.stages.retrain.policy",
    "RetrainingEvidence": "mlops_kit.stages.retrain.policy",
    "RuleResult": "mlops_kit.stages.retrain.policy",
    "RuleRole": "mlops_kit.stages.retrain.policy",
    "register_retraining_rule": "mlops_kit.stages.retrain.policy",
    "make_verdict": "mlops_kit.stages.review.checks",
    "register_check": "mlops_kit.stages.review.checks",
    "ReferencePerformance": "mlops_kit.stages.monitor.reference_performance",
    "CalibrationBins": "mlops_kit.stages.review.evidence",
    "JointDrift": "mlops_kit.stages.monitor.joint_drift",
    "RefitAgreement": "mlops_kit.stages.review.evidence",
    "ReviewEvidence": "mlops_kit.stages.review.evidence",
    "Stage": "mlops_kit.stages.stage",
    "open_stage": "mlops_kit.stages.stage",
    "ParameterRange": "mlops_kit.stages.train.families",
    "build_model_pipeline": "mlops_kit.stages.train.families",
    "register_model_family": "mlops_kit.stages.train.families",
    "compute_metric": "mlops_kit.stats.metrics",
    "register_metric": "mlops_kit.stats.metrics",
    "ReferenceRefit": "mlops_kit.stats.refit_agreement",
    "Alert": "mlops_kit.watch.alert_message",
    "register_alert_sink": "mlops_kit.watch.alert_sinks",
    "WindowMonitoring": "mlops_kit.watch.records",
    "WindowPerformance": "mlops_kit.watch.records",
    "SignalTime": "mlops_kit.watch.signals",
    "WindowEvidence": "mlops_kit.watch.signals",
    "register_incident_signal": "mlops_kit.watch.signals",
}
_PUBLIC_MODULES = {
    "charts": "mlops_kit.core.charts",
    "comparison": "mlops_kit.registry.comparison",
    "deploy": "mlops_kit.stages.deploy",
    "explore": "mlops_kit.stages.explore",
    "features": "mlops_kit.data.features",
    "monitor": "mlops_kit.stages.monitor",
    "monitoring_page": "mlops_kit.dashboards.monitoring_page",
    "prepare": "mlops_kit.stages.prepare",
    "retrain": "mlops_kit.stages.retrain",
    "review": "mlops_kit.stages.review",
    "review_page": "mlops_kit.dashboards.review_page",
    "scoring": "mlops_kit.registry.scoring",
    "train": "mlops_kit.stages.train",
    "versions": "mlops_kit.registry.versions",
}


def open(project: str | Path | None = None) -> ProjectClient:
    """Open a project.

    Parameters
    ----------
    project : str or Path, optional
        The project's folder. Without it, the folder in the environment variable MLOPS_PROJECT, or
        else the current folder or the nearest one above it that has a ``mlops.yaml``.

    Notes
    -----
    A process has the plugins of the project that it opened last. To go back to another project
    that has plugins, open it again.

    Examples
    --------
    >>> import mlops_kit
    >>> project = mlops_kit.open("examples/diabetes")
    >>> project.project.config.task
    'regression'
    """
    from mlops_kit.client import ProjectClient

    return ProjectClient(project)


def new(
    frame: DataFrame,
    *,
    target: str,
    path: str | Path,
    task: str | None = None,
    time: str | None = None,
    id: str | list[str] | None = None,
) -> ProjectClient:
    """Create a project for a data frame, and open it.

    The frame is stored in the project as ``data/table.parquet``. The settings that are not given
    are detected; ``mlops.yaml`` states the reason of each, and marks those that the data alone
    cannot confirm. ``mlops new`` does the same for files.

    Parameters
    ----------
    frame : DataFrame
        The table.
    target : str
        The column to predict.
    path : str or Path
        The project's folder, which does not exist or is empty. Its name is the project's.
    task : str, optional
        The kind of prediction.
    time : str, optional
        The column with the prediction time.
    id : str or list of str, optional
        The columns that identify a row.

    Examples
    --------
    >>> import tempfile
    >>> import mlops_kit
    >>> import pandas as pd
    >>> rain = pd.DataFrame({"day": range(40), "pressure": range(40), "rain": ["yes", "no"] * 20})
    >>> project = mlops_kit.new(rain, target="rain", path=tempfile.mkdtemp())
    >>> project.project.config.task
    'binary'
    """
    from mlops_kit.client import create_project

    id_columns = [id] if isinstance(id, str) else id
    settings = {"task": task, "time": time, "id_columns": id_columns}
    return create_project(frame, path, target=target, **settings)


def find_public_module(name: str) -> str:
    """Return the module that a public name is, or is defined in; of another name, this package."""
    return _PUBLIC_MODULES.get(name) or _MODULES_BY_NAME.get(name, __name__)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    # By its name in importlib, which the import tracer replaces: what a notebook takes from this
    # package is a dependency of its stage, also if the module is in memory already.
    if name in _PUBLIC_MODULES:
        return importlib.import_module(_PUBLIC_MODULES[name])
    if name not in _MODULES_BY_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES_BY_NAME[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
