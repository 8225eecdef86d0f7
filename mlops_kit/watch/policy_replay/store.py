"""What a replay keeps on disk, so that policies share it and an interrupted replay resumes.

A fit is stored by when it was made and since when the concept differs, what monitoring finds in a
window by the fit and the rows. Policies that run in parallel processes wait for one another's
result instead of computing it twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from filelock import FileLock

from mlops_kit.core.files import write_text
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Table
from mlops_kit.core.tasks import to_score_column
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.registry.predicted_classes import predict_classes
from mlops_kit.registry.recipe import Recipe
from mlops_kit.stages.monitor.drift_sides import SCORE_COLUMN
from mlops_kit.stages.monitor.performance_estimate import fit_outcome_model
from mlops_kit.stages.monitor.reference_performance import (
    ReferencePerformance,
    get_reference_performance,
)
from mlops_kit.watch.policy_replay.fits import FitRequest, ReplayFit, fit_as_of
from mlops_kit.watch.policy_replay.history import ReplayHistory
from mlops_kit.watch.records import WindowMonitoring, WindowPerformance
from mlops_kit.watch.reference_data import ReferenceData
from mlops_kit.watch.windows import (
    analyze_labeled_window,
    analyze_unlabeled_window,
)


class ReplayStore:
    """The fits and windows of a replay.

    Parameters
    ----------
    history : ReplayHistory
        The rows.
    recipe : Recipe
        What is fitted.
    folder : Path
        The folder of this history and recipe.
    """

    def __init__(self, history: ReplayHistory, recipe: Recipe, folder: Path) -> None:
        self.history = history
        self.recipe = recipe
        self.folder = folder
        self._fits: dict[FitRequest, ReplayFit] = {}
        self._references: dict[FitRequest, ReferenceData] = {}

    def get_fit(self, request: FitRequest) -> ReplayFit:
        """Get a fit; it is made unless it is stored."""
        if request not in self._fits:
            path = self.folder / "fits" / f"{request.key}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):
                if not path.exists():
                    fit_as_of(self.history, self.recipe, request).save(path)
                self._fits[request] = ReplayFit.load(request, path)
        return self._fits[request]

    def list_fits(self) -> list[ReplayFit]:
        """List the fits that were used so far."""
        return list(self._fits.values())

    def get_monitoring(self, request: FitRequest, positions: np.ndarray) -> WindowMonitoring:
        """Get what monitoring finds without labels in rows that a fit has scored."""

        def analyze() -> str:
            monitoring = analyze_unlabeled_window(
                self.history.project,
                self._get_reference(request),
                self.make_predictions(request, positions),
                self._get_features(positions),
                {},
                self._get_sampling(positions),
            )
            # The sketches of the distributions are for charts.
            return replace(monitoring, sketches={}).to_json()

        name = f"{request.key}-{positions[0]}-{positions[-1]}.monitoring.json"
        return WindowMonitoring.from_json(self._get_text(name, analyze))

    def get_performance(
        self,
        request: FitRequest,
        positions: np.ndarray,
        as_of: datetime,
        earlier_windows_below: int,
    ) -> WindowPerformance:
        """Get what the labels that are known at a time show in rows that a fit has scored."""

        def analyze() -> str:
            predictions = self.make_predictions(request, positions)
            rows = self.history.get_window_rows(positions, as_of)
            target = self.history.project.config.target
            performance = analyze_labeled_window(
                self.history.project,
                self._get_reference(request),
                predictions.assign(label=rows[target].to_numpy(float)),
                self.get_monitoring(request, positions),
                earlier_windows_below,
                self._get_sampling(positions),
            )
            return performance.to_json()

        name = (
            f"{request.key}-{positions[0]}-{positions[-1]}-{as_of:%Y%m%dT%H%M%S}"
            f"-{earlier_windows_below}.performance.json"
        )
        return WindowPerformance.from_json(self._get_text(name, analyze))

    def make_predictions(self, request: FitRequest, positions: np.ndarray) -> pd.DataFrame:
        """Make the predictions of a fit for rows: score and predicted class."""
        scores = self.get_fit(request).final_scores[positions]
        return pd.DataFrame(
            {
                SCORE_COLUMN: to_score_column(scores),
                "decision": predict_classes(scores, self.recipe.threshold),
            }
        )

    def _get_text(self, name: str, compute: Callable[[], str]) -> str:
        path = self.folder / "windows" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.exists():
                write_text(path, compute())
        return path.read_text(encoding="utf-8")

    def _get_reference(self, request: FitRequest) -> ReferenceData:
        """Get the held-out rows of a fit, with the scores of its evaluation model."""
        if request not in self._references:
            fit = self.get_fit(request)
            config = self.history.project.config
            rows = self.history.get_window_rows(fit.held_out, request.as_of).reset_index(drop=True)
            rows[SCORE_COLUMN] = to_score_column(fit.evaluation_scores[fit.held_out])
            self._references[request] = ReferenceData(
                feature_names=self.recipe.features,
                rows=rows,
                performance=get_reference_performance(
                    _make_evaluation(fit, config), config, rows, self.recipe.threshold
                ),
                outcomes=fit_outcome_model(rows, self.recipe.features, config),
                classes=self.history.classes,
                threshold=self.recipe.threshold,
            )
        return self._references[request]

    def get_reference_performance(self, request: FitRequest) -> ReferencePerformance | None:
        """Get the reference performance of a fit; None if it could not be measured."""
        return self._get_reference(request).performance

    def get_reference_rows(self, request: FitRequest) -> pd.DataFrame:
        """Get the held-out rows of a fit, with target and score."""
        return self._get_reference(request).rows

    def _get_features(self, positions: np.ndarray) -> pd.DataFrame:
        rows = self.history.table.iloc[positions]
        return rows[self.recipe.features].reset_index(drop=True)

    def _get_sampling(self, positions: np.ndarray) -> pd.DataFrame:
        config = self.history.project.config
        roles = [config.time, config.validation.group, config.weight]
        columns = [name for name in roles if name in self.history.table]
        return self.history.table.iloc[positions][columns].reset_index(drop=True)


def _make_evaluation(fit: ReplayFit, config: ProjectConfig) -> Table:
    """Make the table of the review that monitoring takes the reference performance from."""
    columns = ["metric", "value", "low", "high"]
    row = (config.headline_metric, *fit.summary.reference)
    return Table("Reference performance", "", pd.DataFrame([row], columns=columns))
