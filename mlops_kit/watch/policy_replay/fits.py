"""The models of a replay: the recipe of a version, fitted on the rows that a day's run would use.

A fit repeats what the train notebook does after its search, in this process and without notebooks:
the held-out set is split off, the training rows are chosen (``train.rows``), the evaluation model
is fitted on the training rows and the final model on all labeled ones. Family, parameters,
features and threshold are those of the recipe; they are not searched again.

A model scores every later row at once, so that no window is scored twice.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.files import write_atomically
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Interval
from mlops_kit.data.columns import PART_COLUMN
from mlops_kit.data.splits import split_rows
from mlops_kit.data.splitters import get_sampling_design
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.config.training_rows import RowSelection, TrainingRows
from mlops_kit.registry.recipe import Recipe
from mlops_kit.stages.train.families import MODEL_FAMILIES
from mlops_kit.stages.train.fitting import (
    compute_scores,
    fit_and_score_fold,
    fit_model,
    takes_row_weights,
)
from mlops_kit.stages.train.folds import select_labeled_rows, select_training_rows
from mlops_kit.stages.train.row_selection import choose_training_rows, select_rows
from mlops_kit.stages.train.search import MAX_TRIAL_ROWS
from mlops_kit.stats.bootstrap import compute_metric_intervals
from mlops_kit.watch.policy_replay.history import ReplayHistory

if TYPE_CHECKING:
    from mlops_kit.data.splitters import Fold

_SCHEMA_VERSION = 1


class FitRequest(NamedTuple):
    """What a retraining is asked for.

    Attributes
    ----------
    as_of : datetime
        The time after which nothing is used.
    change_point : datetime or None
        ``train.change_point``: since when the concept is suspected to differ.
    """

    as_of: datetime
    change_point: datetime | None = None

    @property
    def key(self) -> str:
        """A name that is unique within a replay."""
        change = f"-{self.change_point:%Y%m%dT%H%M%S%z}" if self.change_point else ""
        return f"{self.as_of:%Y%m%dT%H%M%S}{change}"


@dataclass(frozen=True)
class FitSummary:
    """A fit in a few values.

    Attributes
    ----------
    training_rows : str
        Which rows train the model, as ``train.rows`` states it.
    row_count : int
        How many rows the final model was fitted on.
    reference : tuple of float or None
        Headline metric on the held-out set, with the ends of its interval.
    note : str
        Why there is no model; else empty.
    """

    training_rows: str
    row_count: int
    reference: tuple[float | None, float | None, float | None]
    note: str = ""


@dataclass(frozen=True)
class ReplayFit:
    """A model of a replay: its scores of all rows that it did not learn from.

    Attributes
    ----------
    request : FitRequest
        What was asked for.
    summary : FitSummary
        How it was fitted.
    held_out : ndarray of int
        The positions of the held-out rows.
    evaluation_scores : ndarray
        The scores of the evaluation model, from the first held-out row on; NaN before.
    final_scores : ndarray
        The scores of the final model, from ``as_of`` on; NaN before.
    """

    request: FitRequest
    summary: FitSummary
    held_out: np.ndarray
    evaluation_scores: np.ndarray
    final_scores: np.ndarray

    @property
    def is_usable(self) -> bool:
        """Whether there is a model."""
        return not self.summary.note

    @property
    def reference(self) -> Interval | None:
        """The reference performance; None if it could not be measured."""
        interval = Interval(*self.summary.reference)
        return None if interval.value is None else interval

    def save(self, path: Path) -> None:
        """Store the fit in a file."""
        record = json.dumps({"schema_version": _SCHEMA_VERSION, **asdict(self.summary)})

        def write(temporary_path: Path) -> None:
            with temporary_path.open("wb") as file:
                np.savez(
                    file,
                    record=np.array(record),
                    held_out=self.held_out,
                    evaluation_scores=self.evaluation_scores,
                    final_scores=self.final_scores,
                )

        write_atomically(path, write)

    @classmethod
    def load(cls, request: FitRequest, path: Path) -> ReplayFit:
        """Load what ``save`` has stored."""
        with np.load(path) as stored:
            record = json.loads(str(stored["record"]))
            record.pop("schema_version")
            return cls(
                request=request,
                summary=FitSummary(**{**record, "reference": tuple(record["reference"])}),
                held_out=stored["held_out"],
                evaluation_scores=stored["evaluation_scores"],
                final_scores=stored["final_scores"],
            )


def fit_as_of(history: ReplayHistory, recipe: Recipe, request: FitRequest) -> ReplayFit:
    """Fit the recipe as a retraining of that time would, on what was known by then."""
    config = history.project.config
    if request.change_point is not None:
        train = config.train.model_copy(update={"change_point": request.change_point})
        config = config.model_copy(update={"train": train})
    known_rows = history.get_rows_known_at(request.as_of)
    try:
        table, _ = split_rows(known_rows, config, config.seed, history.classes)
        return _fit_table(history, recipe, request, table, config)
    except RunFailedError as error:
        empty = np.full(len(history.table), np.nan)
        summary = FitSummary("", 0, (None, None, None), note=str(error))
        return ReplayFit(request, summary, np.array([], dtype=int), empty, empty)


def _fit_table(
    history: ReplayHistory,
    recipe: Recipe,
    request: FitRequest,
    table: pd.DataFrame,
    config: ProjectConfig,
) -> ReplayFit:
    training_rows = select_training_rows(table, config)
    rows = _choose_rows(recipe, training_rows, config)
    fit = partial(
        fit_model,
        recipe.family,
        recipe.params,
        features=recipe.features,
        config=config,
        seed=config.seed,
        rows=rows,
    )
    evaluation_model = fit(frame=training_rows)
    final_model = evaluation_model
    fitted_rows = training_rows
    if config.train.refit:
        fitted_rows = select_labeled_rows(table, config)
        final_model = fit(frame=fitted_rows)
    held_out = table[table[PART_COLUMN] == "test"]
    held_out_positions = held_out.index.to_numpy()
    evaluation_scores = _score_from(
        history, evaluation_model, recipe, config, int(held_out_positions.min())
    )
    reference = compute_metric_intervals(
        [config.headline_metric],
        held_out[config.target].to_numpy(float),
        evaluation_scores[held_out_positions],
        blocks=get_sampling_design(held_out, config),
        draws=config.review.draws,
        seed=config.seed,
    )[config.headline_metric]
    first_later_row = history.find_position(request.as_of)
    return ReplayFit(
        request=request,
        summary=FitSummary(
            training_rows=str(rows),
            row_count=len(select_rows(fitted_rows, config, rows)),
            reference=(reference.value, reference.low, reference.high),
        ),
        held_out=held_out_positions,
        evaluation_scores=evaluation_scores,
        final_scores=_score_from(history, final_model, recipe, config, first_later_row),
    )


def _score_from(
    history: ReplayHistory, model: object, recipe: Recipe, config: ProjectConfig, first: int
) -> np.ndarray:
    """Score the rows from a position on; the earlier ones have no score."""
    rows = history.table.iloc[first:]
    scores = compute_scores(model, rows, recipe.features, config)
    aligned = np.full((len(history.table), *scores.shape[1:]), np.nan)
    if len(rows):
        aligned[first:] = scores
    return aligned


def _choose_rows(
    recipe: Recipe, training_rows: pd.DataFrame, config: ProjectConfig
) -> TrainingRows:
    """Choose the training rows as the search does, with the recipe in place of its best trial."""
    stated = config.train.rows
    if stated.selection != RowSelection.AUTO:
        return stated
    newest_rows = training_rows.tail(MAX_TRIAL_ROWS)

    def score_fold(fold: Fold, rows: TrainingRows) -> np.ndarray:
        return fit_and_score_fold(
            recipe.family,
            recipe.params,
            newest_rows,
            recipe.features,
            config,
            fold,
            rows,
        )

    unfitted = MODEL_FAMILIES[recipe.family].build(
        recipe.params, config.task, newest_rows, recipe.features, config.seed
    )
    rows, _ = choose_training_rows(newest_rows, config, score_fold, takes_row_weights(unfitted))
    return rows
