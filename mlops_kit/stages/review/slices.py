"""Performance by slice: the headline metric in each group of a few columns.

A model can be good overall and weak for a group. The columns are named beforehand, not searched
for on the rows they are tested on: such a search finds a bad slice in pure noise. The checks say
how many slices were looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.formatting import format_number
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Interval, Table
from mlops_kit.data import features
from mlops_kit.data.row_weights import get_row_weights
from mlops_kit.data.splitters import get_sampling_design
from mlops_kit.project.config.reserved_names import name_beside_chain
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stats import bootstrap, metrics
from mlops_kit.stats.weights import compute_weighted_mean

_MAX_GROUPS_PER_COLUMN = 12  # a column with more groups is evaluated only if it is named
_MAX_GROUPS_SHOWN = 20  # the largest groups of a column; the others are counted in a note
_MISSING_GROUP = "missing"
_SCORE_COLUMNS = {"score", "refitted", "baseline_constant", "baseline_linear"}
_SHOWN_COLUMNS = ("slice", "rows", "mean_target", "value", "low", "high", "gap", "status")


class SliceStatus(StrEnum):
    """Whether a slice is far below the performance on all rows."""

    FINE = "fine"
    FAR_BELOW = "far below"
    CANNOT_TELL = "cannot tell"


class _SliceRow(NamedTuple):
    """One row of the slice table; `evaluate_slices` explains the columns."""

    slice: str
    column: str
    group: str
    rows: int
    mean_target: float | None
    value: float | None
    low: float | None
    high: float | None
    gap: float | None
    lift: float | None
    status: str


@dataclass(frozen=True)
class _SliceSettings:
    """What the evaluation of every group needs."""

    config: ProjectConfig
    overall_value: float
    draws: int
    seed: int


def _select_categorical_features(frame: pd.DataFrame, config: ProjectConfig) -> list[str]:
    """Select the features with two to twelve groups that are categories, text or booleans."""
    types = pd.api.types
    selected = []
    for name in features.list_feature_columns(config, frame):
        if name in _SCORE_COLUMNS or name in config.non_feature_columns:
            continue
        column = frame[name]
        is_measured = types.is_numeric_dtype(column) or types.is_datetime64_any_dtype(column)
        if is_measured and not types.is_bool_dtype(column):
            continue
        if 2 <= column.nunique() <= _MAX_GROUPS_PER_COLUMN:
            selected.append(name)
    return selected


def evaluate_slices(
    frame: pd.DataFrame,
    config: ProjectConfig,
    columns: Sequence[str] = (),
    draws: int = 500,
    seed: int = 0,
) -> Table:
    """Compute the headline metric with its interval in each group of each column.

    Parameters
    ----------
    frame : DataFrame
        Held-out rows with target, score and the columns to slice by.
    columns : sequence of str
        Columns to slice by. If empty: ``review.slices``, or the features with few categories.

    Returns
    -------
    Table
        One row per group. ``gap`` is its distance from the value on all rows (negative is worse,
        in the unit of the metric); ``lift`` is its mean target relative to that of all rows (both
        are missing for a multiclass task);
        ``status`` is a `SliceStatus`: a group cannot be decided if it has too few rows or if its
        interval includes the limit.

    Raises
    ------
    KitError
        If a column is not in the frame.
    """
    frame = to_pandas(frame)
    slice_columns = [name_beside_chain(name) for name in [*columns] or config.review.slices]
    if not slice_columns:
        slice_columns = _select_categorical_features(frame, config)
    for name in slice_columns:
        if name not in frame.columns:
            raise KitError(
                f"review.slices: unknown column {name!r}",
                suggest_names(name, map(str, frame.columns)),
                "edit review.slices in mlops.yaml",
            )
    labeled = frame[frame[config.target].notna() & frame["score"].notna()]
    overall_value = metrics.compute_metric(
        config.headline_metric,
        labeled[config.target],
        labeled["score"],
        weights=get_row_weights(labeled, config),
    )
    settings = _SliceSettings(config, overall_value, draws, seed)
    rows = []
    notes = []
    for name in slice_columns:
        rows += _evaluate_groups(labeled, name, settings)
        hidden_groups = labeled[name].nunique(dropna=False) - _MAX_GROUPS_SHOWN
        if hidden_groups > 0:
            notes.append(f"{name}: {hidden_groups:,} smaller groups are not shown.")
    data = pd.DataFrame(rows, columns=list(_SliceRow._fields))
    metric_title = metrics.METRICS[config.headline_metric].title
    return Table(
        title="Performance by slice",
        sentence=_summarize_slices(data, slice_columns, settings),
        data=data,
        units={"value": metric_title, "gap": f"{metric_title} above that of all rows"},
        notes=tuple(notes),
        visible_columns=_select_shown_columns(config),
    )


def _select_shown_columns(config: ProjectConfig) -> tuple[str, ...]:
    """Select the columns to show; classes have no mean."""
    if config.task == "multiclass":
        return tuple(name for name in _SHOWN_COLUMNS if name != "mean_target")
    return _SHOWN_COLUMNS


def get_group_labels(frame: pd.DataFrame, column: str) -> pd.Series:
    """Get the group of each row as text; missing values are a group of their own."""
    values = frame[column].astype("object")
    return values.where(frame[column].notna(), _MISSING_GROUP).astype(str)


def _evaluate_groups(frame: pd.DataFrame, column: str, settings: _SliceSettings) -> list[_SliceRow]:
    """Evaluate the groups of one column, the largest first."""
    group_labels = get_group_labels(frame, column)
    group_sizes = sorted(
        group_labels.value_counts().items(), key=lambda item: (-item[1], str(item[0]))
    )
    design = get_sampling_design(frame, settings.config)
    rows = []
    for group, count in group_sizes[:_MAX_GROUPS_SHOWN]:
        is_inside = (group_labels == group).to_numpy()
        group_design = design.select(is_inside)
        mean_target, lift = _compare_mean_target(frame, is_inside, design, settings.config)
        value = _measure_group(frame[is_inside], group_design, settings)
        rows.append(
            _SliceRow(
                slice=f"{column} = {group}",
                column=column,
                group=str(group),
                rows=int(count),
                mean_target=mean_target,
                value=value.value,
                low=value.low,
                high=value.high,
                gap=_compute_gap(value, settings),
                lift=lift,
                status=_classify_slice(value, count, settings).value,
            )
        )
    return rows


def _compare_mean_target(
    frame: pd.DataFrame,
    is_inside: np.ndarray,
    design: bootstrap.SamplingDesign,
    config: ProjectConfig,
) -> tuple[float | None, float | None]:
    """Compare the mean target of a group with that of all rows; classes have no mean."""
    if config.task == "multiclass":
        return None, None
    target = frame[config.target]
    overall_mean = compute_weighted_mean(target, design.weights)
    group_mean = compute_weighted_mean(target[is_inside], design.select(is_inside).weights)
    if config.task == "binary" and overall_mean > 0:
        return group_mean, group_mean / overall_mean
    return group_mean, group_mean - overall_mean


def _measure_group(
    group_rows: pd.DataFrame, design: bootstrap.SamplingDesign, settings: _SliceSettings
) -> Interval:
    """Measure the headline metric of a group; small groups get no interval."""
    metric_name = settings.config.headline_metric
    labels = group_rows[settings.config.target]
    scores = group_rows["score"]
    if len(group_rows) < settings.config.review.min_slice_rows:
        value = metrics.compute_metric(metric_name, labels, scores, weights=design.weights)
        return Interval(value)
    intervals = bootstrap.compute_metric_intervals(
        [metric_name], labels, scores, design, settings.draws, settings.seed
    )
    return intervals[metric_name]


def _compute_gap(value: Interval, settings: _SliceSettings) -> float | None:
    if value.value is None:
        return None
    metric = metrics.METRICS[settings.config.headline_metric]
    return metric.compute_gain(value.value, settings.overall_value)


def _classify_slice(value: Interval, rows: int, settings: _SliceSettings) -> SliceStatus:
    """Classify a group; with few rows, or an interval across the limit, it cannot be decided."""
    limits = settings.config.review
    metric = metrics.METRICS[settings.config.headline_metric]
    if rows < limits.min_slice_rows or value.value is None or np.isnan(value.value):
        return SliceStatus.CANNOT_TELL
    gap = metric.compute_gain(value.value, settings.overall_value)
    if limits.max_slice_gap is None or gap >= -limits.max_slice_gap:
        return SliceStatus.FINE
    best_value = value.high if metric.greater_is_better else value.low
    if best_value is None:
        return SliceStatus.CANNOT_TELL
    if metric.compute_gain(best_value, settings.overall_value) < -limits.max_slice_gap:
        return SliceStatus.FAR_BELOW
    return SliceStatus.CANNOT_TELL


def _summarize_slices(
    data: pd.DataFrame, slice_columns: Sequence[str], settings: _SliceSettings
) -> str:
    """Word the weakest slice that can be decided, or why there is none."""
    if not slice_columns:
        return (
            "There is no categorical feature to slice by; "
            "name columns under review.slices in mlops.yaml."
        )
    decided = data[data["status"] != SliceStatus.CANNOT_TELL]
    if decided.empty:
        min_rows = settings.config.review.min_slice_rows
        return (
            f"None of {len(data)} slices can be decided: each has fewer than {min_rows:,} rows "
            "or an interval that includes the limit."
        )
    weakest = decided.sort_values(["gap", "column", "group"]).iloc[0]
    metric_title = metrics.METRICS[settings.config.headline_metric].title
    weakest_value = format_number(float(weakest["value"]))
    overall_value = format_number(settings.overall_value)
    weak_slices = int((data["status"] == SliceStatus.FAR_BELOW).sum())
    return (
        f"Weakest slice: {weakest['slice']} with {metric_title} {weakest_value}, against "
        f"{overall_value} on all rows; {weak_slices} of {len(data)} slices are far below."
    )
