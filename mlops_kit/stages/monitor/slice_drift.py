"""Drift of the slices named in ``review.slices``: their share of the rows, and drift within them.

A slice is a group of a column, as in the review. Its share is tested as that of a boolean column,
with its own correction over all slices. Drift of the features within a slice is informational: it
is listed with the slice, and neither a check nor an incident rests on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mlops_kit.core.formatting import format_names, format_percent
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Table
from mlops_kit.project.config.monitoring import MonitorConfig
from mlops_kit.project.config.reserved_names import name_beside_chain
from mlops_kit.stages.monitor.column_values import to_categories
from mlops_kit.stages.monitor.drift import measure_drift
from mlops_kit.stages.monitor.drift_sides import (
    SCORE_COLUMN,
    DriftDesign,
    DriftSides,
    make_drift_sides,
)
from mlops_kit.stats.monitoring_tables import DriftStatus

MAX_GROUPS_PER_COLUMN = 20  # the largest ones, as in the review
_MAX_LISTED_FEATURES = 3
_MISSING_GROUP = "missing"
_TITLE = "Drift by slice"
_SHOWN_COLUMNS = ("slice", "reference_share", "current_share", "status", "explanation", "within")


class _Slice(NamedTuple):
    """A group of a column, and which rows of either side are in it."""

    column: str
    group: str
    in_reference: np.ndarray
    in_current: np.ndarray

    @property
    def name(self) -> str:
        """The name of the slice."""
        return f"{self.column} = {self.group}"


def measure_slice_drift(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    slice_columns: Sequence[str],
    limits: MonitorConfig,
    seed: int = 0,
    design: DriftDesign | None = None,
) -> Table:
    """Measure how the share of each slice has changed, and which features drifted within it.

    Parameters
    ----------
    reference, current : DataFrame
        The rows that ``measure_drift`` compares.
    slice_columns : sequence of str
        The columns whose groups are slices: ``review.slices``.
    limits : MonitorConfig
        The project's limits.
    seed : int
        The random seed.
    design : DriftDesign, optional
        The days and the weights of the rows.

    Returns
    -------
    Table
        One row per slice: its share on either side, the effect on the scale of Cramér's V, the
        adjusted p-value, the drift status, and as ``within`` the features that drifted in it.
    """
    sides = make_drift_sides(reference, current, design)
    names = [name_beside_chain(name) for name in slice_columns]
    known = [name for name in names if name in sides.reference and name in sides.current]
    absent = [name for name in names if name not in known]
    notes = []
    if absent:
        notes.append(
            f"Not compared, because the scored rows do not have them: {', '.join(absent)}."
        )
    slices = []
    if len(sides.reference) and len(sides.current):
        for name in known:
            slices += _list_slices(name, sides)
    if not slices:
        sentence = "Not applicable: there are no slices to compare; review.slices names columns."
        return Table(_TITLE, sentence, _make_frame([]), notes=tuple(notes))
    shares = _measure_shares(slices, sides, limits, seed)
    rows = []
    for item, (_, row) in zip(slices, shares.iterrows(), strict=True):
        reference_share, current_share = _compute_shares(item, sides)
        rows.append(
            {
                "slice": item.name,
                "column": item.column,
                "group": item.group,
                "reference_share": reference_share,
                "current_share": current_share,
                "effect": row["effect"],
                "adjusted_p": row["adjusted_p"],
                "status": row["status"],
                "reason": row["reason"],
                "explanation": _explain_shares(reference_share, current_share, row),
                "within": _list_drifted_features(sides, item, len(slices) - 1, limits, seed),
            }
        )
    notes.append("Drift within a slice is informational; p-values are adjusted over all slices.")
    data = _make_frame(rows)
    return Table(
        _TITLE,
        _summarize_slices(data),
        data,
        notes=tuple(notes),
        visible_columns=_SHOWN_COLUMNS,
    )


def _make_frame(rows: list[dict[str, object]]) -> pd.DataFrame:
    columns = [
        "slice",
        "column",
        "group",
        "reference_share",
        "current_share",
        "effect",
        "adjusted_p",
        "status",
        "reason",
        "explanation",
        "within",
    ]
    return pd.DataFrame(rows, columns=columns)


def _list_slices(name: str, sides: DriftSides) -> list[_Slice]:
    """List the largest groups of a column; missing values are a group of their own."""
    values = pd.concat([sides.reference[name], sides.current[name]], ignore_index=True)
    reference_rows = len(sides.reference)
    codes, names = to_categories(values.astype(object))
    group_codes = np.where(codes < 0, len(names), codes)
    counts = np.bincount(group_codes, minlength=len(names) + 1)
    largest = np.argsort(-counts, kind="stable")[:MAX_GROUPS_PER_COLUMN]
    all_names = [*names, _MISSING_GROUP]
    slices = []
    for code in largest:
        if not counts[code]:
            continue
        is_inside = group_codes == code
        slices.append(
            _Slice(
                name,
                all_names[code],
                is_inside[:reference_rows],
                is_inside[reference_rows:],
            )
        )
    return slices


def _measure_shares(
    slices: list[_Slice],
    sides: DriftSides,
    limits: MonitorConfig,
    seed: int,
) -> pd.DataFrame:
    """Test the share of each slice as that of a boolean column."""
    reference = pd.DataFrame({item.name: item.in_reference for item in slices})
    current = pd.DataFrame({item.name: item.in_current for item in slices})
    design = DriftDesign(sides.days, sides.weights)
    table = measure_drift(reference, current, reference.columns, limits, seed, design)
    return table.data.set_index("column").loc[list(reference.columns)]


def _list_drifted_features(
    sides: DriftSides,
    item: _Slice,
    other_slices: int,
    limits: MonitorConfig,
    seed: int,
) -> str:
    """List the features that drifted within a slice, the column of the slice left out."""
    rows = min(int(item.in_reference.sum()), int(item.in_current.sum()))
    if rows < limits.min_rows:
        return f"not tested: {rows:,} rows on one side"
    features = []
    for name in map(str, sides.reference.columns):
        if name in sides.current and name not in (SCORE_COLUMN, item.column):
            features.append(name)
    design = DriftDesign(
        sides.days,
        sides.weights,
        other_tests=other_slices * len(features),
    )
    table = measure_drift(
        sides.reference[item.in_reference],
        sides.current[item.in_current],
        features,
        limits,
        seed,
        design.select(item.in_reference, item.in_current),
    )
    drifted = table.data.loc[table.data["status"] == DriftStatus.ALERT, "column"].tolist()
    return format_names(drifted, _MAX_LISTED_FEATURES) if drifted else "none"


def _compute_shares(item: _Slice, sides: DriftSides) -> tuple[float, float]:
    """Compute the share of a slice on either side, weighted if the rows have weights."""
    if sides.weights is None:
        return float(item.in_reference.mean()), float(item.in_current.mean())
    reference_share = np.average(item.in_reference, weights=sides.weights.reference)
    current_share = np.average(item.in_current, weights=sides.weights.current)
    return float(reference_share), float(current_share)


def _explain_shares(reference_share: float, current_share: float, row: pd.Series) -> str:
    """Explain the status of a slice by its shares."""
    if row["status"] == DriftStatus.NOT_TESTED:
        return str(row["explanation"])
    before = format_percent(reference_share)
    now = format_percent(current_share)
    return f"{before} of the reference, {now} of the window"


def _summarize_slices(data: pd.DataFrame) -> str:
    """Summarize in one sentence which slices are a larger or smaller part than before."""
    if (data["status"] == DriftStatus.NOT_TESTED).all():
        return f"Cannot tell: no slice could be tested ({data['explanation'].iloc[0]})."
    drifted = data[data["status"] == DriftStatus.ALERT]
    if drifted.empty:
        return f"The share of none of {len(data)} slices has changed beyond its limit."
    first = drifted.iloc[0]
    verb = "have" if len(drifted) > 1 else "has"
    return (
        f"{len(drifted)} of {len(data)} slices {verb} another share of the rows: {first['slice']} "
        f"({first['explanation']})."
    )
