"""Which rows train a model: windows, recency weights, and the choice among them.

With ``train.rows: auto`` the choice is part of the search. The recipe that is best on all rows is
fitted on each alternative and scored on blocks of newer training rows, each after its own training
rows (nested splits in time); the held-out set takes no part. Usually the blocks are the newest
rows, a label delay after their training rows, and an alternative has to be clearly better than all
rows. After a suspected change (``train.change_point``) the blocks are the rows after the change,
and an alternative has to be better by more than one standard error.

References
----------
Klinkenberg, "Learning drifting concepts: example selection vs. example weighting", Intelligent Data
Analysis 8 (2004): window and weighting chosen by the error on the newest rows. Breiman et al.,
"Classification and regression trees" (1984), section 3.4.3: the one-standard-error rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from mlops_kit.core.formatting import format_number
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Table
from mlops_kit.data.row_weights import get_row_weights
from mlops_kit.data.splitters import get_sampling_design
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.config.training_rows import (
    ALL_ROWS,
    RowSelection,
    TrainingRows,
    parse_training_rows,
)
from mlops_kit.stats.bootstrap import SamplingDesign, compute_paired_difference
from mlops_kit.stats.metrics import METRICS, compute_metric

if TYPE_CHECKING:
    from mlops_kit.data.splitters import Fold
    from mlops_kit.registry.recipe import Recipe

    # Scores of a fold's validation rows by a model fitted on its training rows.
    FoldScorer = Callable[[Fold, TrainingRows], np.ndarray]

_WINDOW_SHARES = (0.5, 0.25, 0.125)  # of the period of the training rows
_HALF_LIFE_SHARES = (0.25, 0.125)
_NEWEST_BLOCKS = (0.85, 0.9, 0.95)  # where the validation blocks begin, as shares of the rows
# A large table has enough rows for one block; each further block is another fit by alternative.
_LARGE_TABLE_ROWS = 50_000
_SINGLE_BLOCK = _NEWEST_BLOCKS[:1]
_BLOCKS_AFTER_CHANGE = (1 / 3, 2 / 3)
_MIN_WINDOW_ROWS = 100
_INTERVAL_STANDARD_ERRORS = 2 * 1.96  # width of a 95% interval
# One-sided 1%, so that with five alternatives all rows are replaced by mistake in 5% of searches.
_MIN_STANDARD_ERRORS = 2.33
_MIN_STANDARD_ERRORS_AFTER_CHANGE = 1.0
_DRAWS = 200
_ALTERNATIVE_COLUMNS = ("rows", "training_rows", "score", "gain", "low", "high", "chosen")


@dataclass(frozen=True)
class RowAlternative:
    """How a selection of training rows did on the newest training rows.

    Attributes
    ----------
    rows : str
        The selection as ``train.rows`` states it.
    training_rows : int
        How many rows it selects of the training rows.
    score : float
        The metric of the search on all validation blocks.
    gain, low, high : float or None
        The paired gain over all rows with its 95% interval; None for all rows themselves, or if
        there are too few days for an interval.
    chosen : bool
        Whether it was chosen.
    """

    rows: str
    training_rows: int
    score: float
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    chosen: bool = False


def select_rows(
    frame: pd.DataFrame,
    config: ProjectConfig,
    rows: TrainingRows,
) -> pd.DataFrame:
    """Select the rows of a window, which ends with the newest row of the table."""
    return frame[is_selected(frame, config, rows)]


def is_selected(
    frame: pd.DataFrame,
    config: ProjectConfig,
    rows: TrainingRows,
) -> np.ndarray:
    """Return whether each row is in the window, see ``select_rows``."""
    if config.time is None or frame.empty:
        return np.ones(len(frame), dtype=bool)
    times = frame[config.time]
    if rows.selection == RowSelection.RECENT:
        selected = times > times.max() - rows.duration
    elif rows.selection == RowSelection.SINCE and rows.start is not None:
        selected = times >= pd.Timestamp(config.to_utc(rows.start))
    else:
        selected = times.notna()
    return np.asarray(selected)


def compute_training_weights(
    frame: pd.DataFrame,
    config: ProjectConfig,
    rows: TrainingRows,
) -> np.ndarray | None:
    """Compute how much each row counts in a fit: its own weight times its recency weight.

    A recency weight is ``0.5 ** (age / half-life)``, where the newest row has the age 0, and their
    mean is 1, so that a penalty of the model keeps its meaning.
    """
    weights = get_row_weights(frame, config)
    is_weighted = rows.selection == RowSelection.WEIGHTED
    if not is_weighted or rows.duration is None or config.time is None or frame.empty:
        return weights
    times = frame[config.time]
    ages = (times.max() - times).dt.total_seconds().to_numpy(dtype=float)
    half_life = rows.duration.total_seconds()
    recency = np.asarray(0.5 ** (ages / half_life))
    recency /= recency.mean()
    return recency if weights is None else np.asarray(recency * weights)


def to_window_length(
    rows: TrainingRows,
    frame: pd.DataFrame,
    config: ProjectConfig,
) -> TrainingRows:
    """Return ``since(...)`` as a window of the same length, for the folds of older periods."""
    if rows.selection != RowSelection.SINCE or config.time is None or rows.start is None:
        return rows
    length = frame[config.time].max() - pd.Timestamp(config.to_utc(rows.start))
    # The row at the start itself belongs to the window.
    return TrainingRows(RowSelection.RECENT, length.to_pytimedelta() + timedelta(seconds=1))


def choose_training_rows(
    rows: pd.DataFrame,
    config: ProjectConfig,
    score_fold: FoldScorer,
    takes_weights: bool = True,
) -> tuple[TrainingRows, list[RowAlternative]]:
    """Choose which of the training rows to fit on, by how well that predicts the newest of them.

    Parameters
    ----------
    rows : DataFrame
        Training rows in time order.
    score_fold : callable
        From the positions of training and validation rows, and a selection, to the scores of the
        validation rows.
    takes_weights : bool
        Whether the model can be fitted with row weights; else only windows are compared.

    Returns
    -------
    chosen : TrainingRows
        All rows unless an alternative is clearly better.
    alternatives : list of RowAlternative
        All rows first; empty if nothing could be compared, as without time.
    """
    if config.time is None:
        return ALL_ROWS, []
    change_time = _find_change(rows, config)
    if change_time is None:
        folds = _build_newest_folds(rows, config)
        candidates = _list_windows(rows, config)
    else:
        folds = _build_folds_after_change(rows, config, change_time)
        candidates = _list_windows_after_change(rows, config, change_time)
    usable_candidates = []
    for candidate in candidates:
        if candidate.selection == RowSelection.WEIGHTED and not takes_weights:
            continue
        if all(_is_trainable(rows, config, candidate, training) for training, _ in folds):
            usable_candidates.append(candidate)
    if not folds or not usable_candidates:
        return ALL_ROWS, []
    validation = np.concatenate([positions for _, positions in folds])
    labels = rows[config.target].to_numpy()[validation]
    design = get_sampling_design(rows.iloc[validation], config)
    if change_time is not None:
        design = SamplingDesign(None, design.weights)  # there are too few days to draw them
    scores = {}
    for candidate in [ALL_ROWS, *usable_candidates]:
        fold_scores = [score_fold(fold, candidate) for fold in folds]
        scores[candidate] = np.concatenate(fold_scores)
    alternatives = _compare_alternatives(
        scores,
        labels,
        design,
        rows,
        config,
    )
    min_errors = _MIN_STANDARD_ERRORS
    if change_time is not None:
        min_errors = _MIN_STANDARD_ERRORS_AFTER_CHANGE
    return _mark_best(alternatives, min_errors)


def _find_change(rows: pd.DataFrame, config: ProjectConfig) -> datetime | None:
    """Return the time of a suspected change if enough training rows follow it."""
    if config.train.change_point is None:
        return None
    change_time = config.to_utc(config.train.change_point)
    newer_rows = int((rows[config.time] >= change_time).sum())
    return change_time if newer_rows >= _MIN_WINDOW_ROWS else None


def _list_windows(rows: pd.DataFrame, config: ProjectConfig) -> list[TrainingRows]:
    """List windows and half-lives as shares of the period of the rows, in whole days."""
    period = rows[config.time].max() - rows[config.time].min()
    candidates = []
    for selection, shares in (
        (RowSelection.RECENT, _WINDOW_SHARES),
        (RowSelection.WEIGHTED, _HALF_LIFE_SHARES),
    ):
        for share in shares:
            days = math.ceil(share * (period / timedelta(days=1)))
            candidates.append(TrainingRows(selection, timedelta(days=days)))
    return [candidate for candidate in candidates if candidate.duration]


def _list_windows_after_change(
    rows: pd.DataFrame,
    config: ProjectConfig,
    change_time: datetime,
) -> list[TrainingRows]:
    """List the rows since a change, the newer half of them, and weights that make it count."""
    hours = (rows[config.time].max() - change_time) / timedelta(hours=1)
    half = timedelta(hours=max(1, round(hours / 2)))
    quarter = timedelta(hours=max(1, round(hours / 4)))
    return [
        TrainingRows(RowSelection.SINCE, start=change_time),
        TrainingRows(RowSelection.RECENT, half),
        TrainingRows(RowSelection.WEIGHTED, half),
        TrainingRows(RowSelection.WEIGHTED, quarter),
    ]


def _build_newest_folds(rows: pd.DataFrame, config: ProjectConfig) -> list[Fold]:
    """Build folds that validate on the newest rows, each a label delay after its training rows."""
    times = rows[config.time].reset_index(drop=True)
    shares = _SINGLE_BLOCK if len(times) >= _LARGE_TABLE_ROWS else _NEWEST_BLOCKS
    starts = [times.iloc[int(share * len(times))] for share in shares]
    return _build_folds(times, starts, config.label_delay)


def _build_folds_after_change(
    rows: pd.DataFrame,
    config: ProjectConfig,
    change_time: datetime,
) -> list[Fold]:
    """Build folds that validate on later parts of the rows after a change, without a gap."""
    times = rows[config.time].reset_index(drop=True)
    newer = times[times >= change_time].reset_index(drop=True)
    starts = [newer.iloc[int(share * len(newer))] for share in _BLOCKS_AFTER_CHANGE]
    return _build_folds(times, starts, timedelta(0))


def _build_folds(
    times: pd.Series,
    starts: list[Any],
    delay: timedelta,
) -> list[Fold]:
    folds = []
    ends = [*starts[1:], None]
    for start, end in zip(starts, ends, strict=True):
        is_validated = times >= start
        if end is not None:
            is_validated &= times < end
        training = np.flatnonzero((times + delay <= start) & (times < start))
        validation = np.flatnonzero(is_validated)
        if len(training) and len(validation):
            folds.append((training, validation))
    return folds


def _is_trainable(
    rows: pd.DataFrame,
    config: ProjectConfig,
    candidate: TrainingRows,
    training: np.ndarray,
) -> bool:
    """Whether a selection leaves enough rows, and every class, to train on in a fold."""
    selected = select_rows(rows.iloc[training], config, candidate)
    min_rows = _MIN_WINDOW_ROWS
    if candidate.selection == RowSelection.SINCE:
        min_rows = _MIN_WINDOW_ROWS // 4  # the rows after a change are few at first
    if len(selected) < min_rows:
        return False
    if config.task == "regression":
        return True
    return bool(selected[config.target].nunique() == rows[config.target].nunique())


def _compare_alternatives(
    scores: dict[TrainingRows, np.ndarray],
    labels: np.ndarray,
    design: SamplingDesign,
    rows: pd.DataFrame,
    config: ProjectConfig,
) -> list[RowAlternative]:
    """Compare each selection with all rows on the validation rows."""
    metric = config.search_metric
    compared = []
    for candidate, candidate_scores in scores.items():
        value = compute_metric(metric, labels, candidate_scores, weights=design.weights)
        gain = low = high = None
        if candidate != ALL_ROWS:
            interval = compute_paired_difference(
                metric,
                labels,
                (candidate_scores, scores[ALL_ROWS]),
                design,
                _DRAWS,
                config.seed,
            )
            gain, low, high = interval.value, interval.low, interval.high
        compared.append(
            RowAlternative(
                rows=str(candidate),
                training_rows=len(select_rows(rows, config, candidate)),
                score=value,
                gain=gain,
                low=low,
                high=high,
            )
        )
    return compared


def _mark_best(
    alternatives: list[RowAlternative], min_errors: float
) -> tuple[TrainingRows, list[RowAlternative]]:
    """Mark the alternative with the largest gain of enough standard errors; else all rows."""
    best = 0
    best_gain = 0.0
    for position, alternative in enumerate(alternatives):
        gain, low, high = alternative.gain, alternative.low, alternative.high
        if gain is None or low is None or high is None or not gain > best_gain:
            continue
        standard_error = (high - low) / _INTERVAL_STANDARD_ERRORS
        if gain > min_errors * standard_error:
            best, best_gain = position, gain
    marked = list(alternatives)
    marked[best] = replace(alternatives[best], chosen=True)
    return parse_training_rows(marked[best].rows), marked


def describe_training_rows(
    recipe: Recipe,
    training_rows: pd.DataFrame,
    config: ProjectConfig,
) -> Table:
    """Describe which rows train the model, and how the alternatives scored.

    Parameters
    ----------
    recipe : Recipe
        As returned by ``search_recipes``.
    training_rows : DataFrame
        As returned by ``select_training_rows``.

    Returns
    -------
    Table
        One row per alternative: rows, training_rows, score, gain, low, high (95%), chosen.
    """
    training_rows = to_pandas(training_rows)
    rows = parse_training_rows(recipe.training_rows)
    data = pd.DataFrame(recipe.row_alternatives, columns=list(_ALTERNATIVE_COLUMNS))
    sentence = _describe_selection(rows, training_rows, config)
    metric_title = METRICS[recipe.metric].title
    alternatives = {alternative["rows"]: alternative for alternative in recipe.row_alternatives}
    if alternatives:
        all_score = format_number(alternatives[str(ALL_ROWS)]["score"])
        chosen_score = format_number(alternatives[str(rows)]["score"])
        others = len(alternatives) - 1
        if rows == ALL_ROWS:
            sentence += (
                f" None of {others} windows and weightings is clearly better on the newest training"
                f" rows ({metric_title} {all_score})."
            )
        else:
            sentence += (
                f" On the newest training rows that is clearly better than all rows "
                f"({metric_title} {chosen_score} against {all_score})."
            )
    notes: tuple[str, ...] = ()
    if alternatives:
        notes = ("Each gain is a paired difference from all rows; positive is better.",)
    return Table("Training rows", sentence, data, notes=notes)


def _describe_selection(
    rows: TrainingRows,
    training_rows: pd.DataFrame,
    config: ProjectConfig,
) -> str:
    all_rows = f"{len(training_rows):,} training rows"
    if rows == ALL_ROWS:
        return f"All {all_rows} train the model."
    if rows.selection == RowSelection.WEIGHTED:
        return f"All {all_rows} train the model, weighted by {rows}."
    selected_rows = select_rows(training_rows, config, rows)
    return f"{len(selected_rows):,} of {all_rows} train the model: {rows}."
