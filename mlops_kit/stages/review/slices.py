"""The headline metric by group: where a model is weak although it is good on the whole.

Groups are those of columns named beforehand, not searched for on the rows they are tested on: a
search of that kind finds a bad slice in pure noise (``checks`` says how many were looked at).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Interval, Table
from mlops_kit.data.columns import get_row_days, list_feature_columns
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stats import bootstrap, metrics

_MAX_GROUPS_PER_COLUMN = (
    12  # a category with more groups than this is not looked at unless it is named
)
_MAX_GROUPS_SHOWN = 20  # the largest groups of a column; the others are counted
_MISSING_GROUP = "missing"
_SCORE_COLUMNS = {"score", "refitted", "baseline_constant", "baseline_linear"}
_SHOWN_COLUMNS = ("slice", "rows", "mean_target", "value", "low", "high", "gap", "word")
_SLICE_COLUMNS = (
    "slice",
    "column",
    "group",
    "rows",
    "mean_target",
    "value",
    "low",
    "high",
    "gap",
    "lift",
    "word",
)


def _select_categorical_features(
    frame: pd.DataFrame, config: ProjectConfig, known: Sequence[str]
) -> list[str]:
    """Features with two to twelve groups that are categories, texts or truth values."""
    types = pd.api.types
    named = [
        c
        for c in known
        if types.is_bool_dtype(frame[c])
        or not (types.is_numeric_dtype(frame[c]) or types.is_datetime64_any_dtype(frame[c]))
    ]
    return [
        c
        for c in named
        if 2 <= frame[c].nunique() <= _MAX_GROUPS_PER_COLUMN and c not in config.non_feature_columns
    ]


def evaluate_slices(
    frame: pd.DataFrame,
    config: ProjectConfig,
    columns: Sequence[str] = (),
    draws: int = 500,
    seed: int = 0,
    score: str = "score",
) -> Table:
    """The headline metric with its interval in each group of each column.

    Parameters
    ----------
    frame : DataFrame
        Judged rows with target, score and the columns to slice by.
    columns : sequence of str
        Columns to slice by; empty: ``review.slices``, or the coarse categories among the features.

    Returns
    -------
    Table
        A row a group. ``gap`` is how far it lies from the whole (negative is worse, in the metric's
        unit); ``lift`` is its mean target over the whole's; ``word`` is ``fine``, ``far below`` or
        ``cannot tell`` (too few rows, or the interval reaches across the limit).

    Raises
    ------
    KitError
        If a column is not in the frame.
    """
    chosen = (
        list(columns)
        or config.review.slices
        or _select_categorical_features(
            frame,
            config,
            [c for c in list_feature_columns(config, frame) if c not in _SCORE_COLUMNS],
        )
    )
    for name in chosen:
        if name not in frame.columns:
            raise KitError(
                f"review.slices: unknown column {name!r}",
                suggest_names(name, map(str, frame.columns)),
                "edit review.slices in mlops.yaml",
            )
    labelled = frame[frame[config.target].notna() & frame[score].notna()]
    whole = metrics.compute_metric(config.headline_metric, labelled[config.target], labelled[score])
    blocks = get_row_days(labelled, config)
    rows = [
        row
        for column in chosen
        for row in _evaluate_groups(labelled, config, column, score, whole, blocks, draws, seed)
    ]
    data = pd.DataFrame(rows, columns=list(_SLICE_COLUMNS))
    known = metrics.METRICS[config.headline_metric].title
    notes = tuple(
        f"{c}: {n:,} smaller groups are not shown."
        for c in chosen
        if (n := labelled[c].nunique(dropna=False) - _MAX_GROUPS_SHOWN) > 0
    )
    units = {"value": known, "gap": f"{known} above the whole's"}
    return Table(
        "Where is it weaker?",
        _summarize_slices(data, config, whole, chosen),
        data,
        units,
        notes,
        _SHOWN_COLUMNS,
    )


def get_group_labels(frame: pd.DataFrame, column: str) -> pd.Series:
    """The group of each row as text; a missing value is a group."""
    return frame[column].astype("object").where(frame[column].notna(), _MISSING_GROUP).astype(str)


def _evaluate_groups(
    frame: pd.DataFrame,
    config: ProjectConfig,
    column: str,
    score: str,
    whole: float,
    blocks: np.ndarray | None,
    draws: int,
    seed: int,
) -> list[tuple[Any, ...]]:
    """The groups of one column, the largest first."""
    groups = get_group_labels(frame, column)
    base = float(frame[config.target].mean())
    found = []
    for group, count in sorted(groups.value_counts().items(), key=lambda kv: (-kv[1], kv[0]))[
        :_MAX_GROUPS_SHOWN
    ]:
        inside = (groups == group).to_numpy()
        y, s = frame.loc[inside, config.target], frame.loc[inside, score]
        few = count < config.review.min_slice_rows
        held = None if blocks is None else blocks[inside]
        value = (
            Interval(metrics.compute_metric(config.headline_metric, y, s))
            if few
            else bootstrap.compute_metric_intervals(
                [config.headline_metric], y, s, held, draws, seed
            )[config.headline_metric]
        )
        mean = float(y.mean())
        gap = (
            metrics.METRICS[config.headline_metric].compute_gain(value.value, whole)
            if value.value is not None
            else None
        )
        lift = mean / base if config.task == "binary" and base > 0 else mean - base
        found.append(
            (
                f"{column} = {group}",
                column,
                group,
                int(count),
                mean,
                value.value,
                value.low,
                value.high,
                gap,
                lift,
                _classify_slice(value, whole, config, few),
            )
        )
    return found


def _classify_slice(value: Interval, whole: float, config: ProjectConfig, few: bool) -> str:
    """Whether a group lies far below the whole; across the limit, or on few rows, one cannot tell."""
    gap, known = config.review.max_slice_gap, metrics.METRICS[config.headline_metric]
    if few or value.value is None or value.value != value.value:
        return "cannot tell"
    if gap is None or known.compute_gain(value.value, whole) >= -gap:
        return "fine"
    strong = value.high if known.greater_is_better else value.low
    return (
        "far below"
        if strong is not None and known.compute_gain(strong, whole) < -gap
        else "cannot tell"
    )


def _summarize_slices(
    data: pd.DataFrame, config: ProjectConfig, whole: float, chosen: Sequence[str]
) -> str:
    """The weakest slice that can be judged, or why there is none."""
    title = metrics.METRICS[config.headline_metric].title
    if not chosen:
        return "There is no coarse category to slice by; review.slices in mlops.yaml names columns."
    judged = data[data["word"] != "cannot tell"]
    if judged.empty:
        return f"None of {len(data)} slices has the {config.review.min_slice_rows:,} rows, or the certainty, to be judged."
    weakest = judged.sort_values(["gap", "column", "group"]).iloc[0]
    far = int((data["word"] == "far below").sum())
    return f"Weakest where {weakest['column']} = {weakest['group']}: {title} {format_number(float(weakest['value']))}, against {format_number(whole)} on all rows; {far} of {len(data)} slices lie far below."
