"""Leakage: does a feature know what it cannot know at the moment of the prediction?

To add a check: a function that returns a Verdict, and its call in ``checks``.
"""

from __future__ import annotations

from typing import Any

from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import np, pd, scipy_stats
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Verdict
from mlops_kit.data import columns
from mlops_kit.data.features import build
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project

_MIN_COMMON_ROWS = 20  # fewer common rows say nothing
_MAX_COMPARED_ROWS = 20_000  # rows, evenly spread or the newest, that tell as much as all
_MAX_COPY_CHECK_ROWS = (
    4_000  # rows, evenly spread, on which each pair of columns is tried for a copy
)
_MIN_EQUAL_SHARE = 0.99  # share of equal values, of two columns that are copies
_MIN_COPY_RANK_CORRELATION = (
    0.999  # |rank correlation| of two columns that are copies but for their scale
)


def check_leakage(project: Project, frame: pd.DataFrame, history: pd.DataFrame) -> list[Verdict]:
    """All checks of a feature table.

    Parameters
    ----------
    project : Project
    frame : DataFrame
        The feature table with ``part`` and the encoded target.
    history : DataFrame
        The source from which the features were made, with the columns known later.
    """
    return [
        check_known_later(project, frame, history),
        check_single_feature(project.config, frame),
        check_feature_timing(project, frame, history),
    ]


def check_known_later(project: Project, frame: pd.DataFrame, history: pd.DataFrame) -> Verdict:
    """Whether a feature is, or copies, a column that is known only later."""
    config, title = project.config, "No feature is known only later"
    if not (late := [c for c in config.known_later if c in history]):
        return Verdict(
            "known_later",
            title,
            CheckOutcome.NOT_APPLICABLE,
            CheckSeverity.BLOCKS,
            "mlops.yaml names no column that is known only later.",
            "none named",
            "no copy",
        )
    keys = columns.list_key_columns(project)
    features = sorted(
        (
            c
            for c in frame.columns
            if c not in {config.target, config.time, columns.PART_COLUMN, *keys}
        ),
        key=lambda c: c not in late,
    )
    aligned = frame[keys].merge(history[[*keys, *late]].drop_duplicates(keys), on=keys, how="left")
    sample = slice(None, None, max(1, len(frame) // _MAX_COPY_CHECK_ROWS))
    copied = {
        f: f
        if f in late
        else next(
            (c for c in late if are_copies(frame[f].iloc[sample], aligned[c].iloc[sample])), None
        )
        for f in features
    }
    if not (found := {f: c for f, c in copied.items() if c}):
        return Verdict(
            "known_later",
            title,
            CheckOutcome.PASSED,
            CheckSeverity.BLOCKS,
            f"None of {len(features)} features is a copy of {', '.join(late)}.",
            "no copy",
            "no copy",
        )
    said = ", ".join(f if f == c else f"{f} copies {c}" for f, c in found.items())
    return Verdict(
        "known_later",
        title,
        CheckOutcome.FAILED,
        CheckSeverity.BLOCKS,
        f"Known only later, and yet a feature: {said}.",
        said,
        "no copy",
        f"excluded_columns: [{', '.join(found)}] in mlops.yaml, or mend the view",
        {"columns": found},
    )


def are_copies(left: pd.Series, right: pd.Series) -> bool:
    """Whether two columns are the same, or rank the rows alike, where both are known."""
    known = pd.DataFrame({"left": left.array, "right": right.array}).dropna()
    if len(known) < _MIN_COMMON_ROWS or known.nunique().min() < 2:
        return False
    if all(map(pd.api.types.is_numeric_dtype, known.dtypes)):
        return bool(
            abs(known.astype(float).corr("spearman").to_numpy()[0, 1]) >= _MIN_COPY_RANK_CORRELATION
        )
    return bool(
        (known["left"].astype(str) == known["right"].astype(str)).mean() >= _MIN_EQUAL_SHARE
    )


def check_single_feature(config: ProjectConfig, frame: pd.DataFrame) -> Verdict:
    """Whether a feature alone ranks the target so well that it must know it."""
    title, limit = "No feature alone tells the target", config.review.leakage_threshold
    train = frame[frame[columns.PART_COLUMN] == "train"]
    train = train.iloc[:: max(1, len(train) // _MAX_COMPARED_ROWS)]
    features = columns.list_feature_columns(config, frame)
    measure = "AUC" if config.task == "binary" else "|rank correlation|"
    if len(train) < _MIN_COMMON_ROWS or not features:
        return Verdict(
            "leakage_threshold",
            title,
            CheckOutcome.CANNOT_TELL,
            CheckSeverity.BLOCKS,
            f"{len(train)} training rows and {len(features)} features are too few to tell.",
            f"{len(train)} rows",
            f"{measure} < {format_number(limit)}",
        )
    target = train[config.target].to_numpy(dtype=float)
    strengths = {
        f: measure_association(train[f], target, config.task == "binary") for f in features
    }
    best = max(strengths, key=lambda f: strengths[f])
    leaks = [f for f in features if strengths[f] >= limit]
    found = f"{best}: {measure} {format_number(strengths[best])}"
    if not leaks:
        return Verdict(
            "leakage_threshold",
            title,
            CheckOutcome.PASSED,
            CheckSeverity.BLOCKS,
            f"The strongest feature alone is {found}.",
            found,
            f"below {format_number(limit)}",
            diagnostics={"strength": strengths},
        )
    sentence = f"{', '.join(leaks)} alone ranks the target ({found}): it looks like a leak."
    return Verdict(
        "leakage_threshold",
        title,
        CheckOutcome.FAILED,
        CheckSeverity.BLOCKS,
        sentence,
        found,
        f"below {format_number(limit)}",
        f"excluded_columns: [{', '.join(leaks)}] in mlops.yaml if not known at the moment of the prediction",
        {"strength": strengths},
    )


def measure_association(values: pd.Series, target: Any, binary: bool) -> float:
    """How well a column alone ranks the target: AUC (0.5 to 1) or |Spearman's rho| (0 to 1).

    A missing value ranks below or above all others, whichever tells more. Categories stand for the
    mean target of their rows in the other half, so that a name of each row does not count as a leak.
    """
    if pd.api.types.is_numeric_dtype(values):
        coded: Any = values.astype("float64").to_numpy(na_value=np.nan)
    elif pd.api.types.is_datetime64_any_dtype(values):
        coded = values.astype("int64").where(values.notna()).to_numpy(dtype="float64")
    else:
        coded, target = _encode_by_target_mean(values.astype("str").to_numpy(dtype=object), target)
    filled = [
        np.where(np.isnan(coded), fill, coded)
        for fill in ((-np.inf, np.inf) if np.isnan(coded).any() else (0.0,))
    ]
    return max(
        (compute_rank_auc if binary else compute_rank_correlation)(column, target)
        for column in filled
    )


def _encode_by_target_mean(values: Any, target: Any) -> tuple[Any, Any]:
    """Every second row's category as the mean target of the category in the rows between."""
    means = pd.Series(target[1::2]).groupby(values[1::2]).mean()
    return pd.Series(values[::2]).map(means).fillna(target[1::2].mean()).to_numpy(), target[::2]


def compute_rank_auc(values: Any, target: Any) -> float:
    """Area under the ROC curve by ranks (Mann-Whitney), the better of both directions; 0.5 for one class."""
    positive, others = values[target == 1], values[target != 1]
    if not len(positive) or not len(others):
        return 0.5
    area = scipy_stats.mannwhitneyu(positive, others, method="asymptotic").statistic / (
        len(positive) * len(others)
    )
    return float(max(area, 1 - area))


def compute_rank_correlation(values: Any, target: Any) -> float:
    """Spearman's |rank correlation|; 0 for a constant."""
    a, b = scipy_stats.rankdata(values), scipy_stats.rankdata(target)
    return 0.0 if a.std() == 0 or b.std() == 0 else float(abs(np.corrcoef(a, b)[0, 1]))


def check_feature_timing(project: Project, frame: pd.DataFrame, history: pd.DataFrame) -> Verdict:
    """Whether the project's features change with what became known later.

    The cut is the moment of the middle row, most likely in a busy hour, where a leak of minutes shows. The
    rows compared are the newest up to it: what came too early differs there first.
    """
    config = project.config
    if config.time is None or not config.features:
        why = (
            "The table has no time."
            if config.time is None
            else "The project has no features of its own."
        )
        return Verdict(
            "point_in_time",
            "Features use only what was known",
            CheckOutcome.NOT_APPLICABLE,
            CheckSeverity.BLOCKS,
            why,
            "nothing to check",
            "no difference",
        )
    keys = columns.list_key_columns(project)
    rows = history.merge(frame[keys], on=keys, how="inner").sort_values(config.time, kind="stable")
    half = rows.head(len(rows) // 2 + 1)
    return build.check_point_in_time(
        project, half.tail(_MAX_COMPARED_ROWS), history, half[config.time].iloc[-1].to_pydatetime()
    )
