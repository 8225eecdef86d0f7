"""Leakage checks: no feature may contain what is unknown at prediction time.

To add a check:

1. Write a function that returns a ``Verdict``.
2. Call it in ``check_leakage``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from mlops_kit.core.formatting import format_number
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Verdict
from mlops_kit.data.columns import PART_COLUMN, list_feature_columns, list_key_columns
from mlops_kit.data.features import check_point_in_time
from mlops_kit.data.splitters import assign_halves, count_shared_groups
from mlops_kit.data.target import list_classes
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project
from mlops_kit.stats.association import (
    are_copies,
    find_outstanding_columns,
    measure_association,
    measure_class_associations,
    measure_mean_class_association,
)

_MEASURE_BY_TASK = {
    "binary": "AUC",
    "multiclass": "lowest one-vs-rest AUC",
    "regression": "|rank correlation|",
}
_CONFIRMED = "review.confirmed_features"
_MIN_CHECKED_ROWS = 20  # with fewer rows nothing can be said
_MAX_COMPARED_ROWS = 20_000  # evenly spread or the newest; they tell as much as all
_MAX_COPY_CHECK_ROWS = 4_000  # evenly spread; each pair of columns is compared on them


def check_leakage(
    project: Project,
    frame: pd.DataFrame,
    history: pd.DataFrame,
) -> list[Verdict]:
    """Run all leakage checks on a feature table.

    Parameters
    ----------
    frame : DataFrame
        The feature table with ``part`` and the encoded target.
    history : DataFrame
        The source rows that the features are computed from, with the columns known later.
    """
    frame = to_pandas(frame)
    history = to_pandas(history)
    verdicts = [
        check_known_later(project, frame, history),
        check_single_feature(project.config, frame),
        check_outstanding_feature(project.config, frame),
        check_feature_timing(project, frame, history),
    ]
    if project.config.task == "multiclass":
        verdicts.append(check_single_classes(project.config, frame, list_classes(project)))
    if project.config.validation.group:
        verdicts.append(check_groups_apart(project.config, frame))
    return verdicts


def check_groups_apart(config: ProjectConfig, frame: pd.DataFrame) -> Verdict:
    """Check that no group of ``validation.group`` is both trained and evaluated on."""
    group = config.validation.group
    shared, held_out = count_shared_groups(frame, config)
    outcome = CheckOutcome.FAILED if shared else CheckOutcome.PASSED
    sentence = f"None of the {held_out:,} held-out groups of {group!r} is in the training set."
    if shared:
        sentence = (
            f"{shared:,} of the {held_out:,} held-out groups of {group!r} are in the training set."
        )
    return Verdict(
        "groups_apart",
        "No group is in two parts of the split",
        outcome,
        CheckSeverity.BLOCKS,
        sentence,
        observed=f"{shared:,} shared groups",
        limit="none",
        hint="split the rows with prepare.split_rows" if shared else "",
    )


def check_known_later(
    project: Project,
    frame: pd.DataFrame,
    history: pd.DataFrame,
) -> Verdict:
    """Check that no feature is, or copies, a column that is known only later."""
    config = project.config
    make_verdict = partial(
        Verdict,
        "known_later",
        "No feature is known only later",
        severity=CheckSeverity.BLOCKS,
        limit="no copy",
    )
    later_columns = [column for column in config.known_later if column in history]
    if not later_columns:
        return make_verdict(
            outcome=CheckOutcome.NOT_APPLICABLE,
            sentence="mlops.yaml lists no column that is known only later.",
            observed="none listed",
        )
    keys = list_key_columns(project)
    excluded = {config.target, config.time, PART_COLUMN, *keys}
    features = [column for column in frame.columns if column not in excluded]
    # Columns that are themselves known later come first in the message.
    features.sort(key=lambda column: column not in later_columns)
    later_values = history[[*keys, *later_columns]].drop_duplicates(keys)
    aligned = frame[keys].merge(later_values, on=keys, how="left")
    copied_column = {}
    for feature in features:
        copied = _find_copied_column(feature, frame, aligned, later_columns)
        if copied:
            copied_column[feature] = copied
    if not copied_column:
        return make_verdict(
            outcome=CheckOutcome.PASSED,
            sentence=(f"None of {len(features)} features is a copy of {', '.join(later_columns)}."),
            observed="no copy",
        )
    descriptions = []
    for feature, column in copied_column.items():
        is_same = feature == column
        descriptions.append(feature if is_same else f"{feature} copies {column}")
    observed = ", ".join(descriptions)
    return make_verdict(
        outcome=CheckOutcome.FAILED,
        sentence=f"Features that are known only later: {observed}.",
        observed=observed,
        hint=(
            f"excluded_columns: [{', '.join(copied_column)}] in mlops.yaml, or fix the feature view"
        ),
        diagnostics={"columns": copied_column},
    )


def _find_copied_column(
    feature: str,
    frame: pd.DataFrame,
    aligned: pd.DataFrame,
    later_columns: list[str],
) -> str | None:
    """Find the column that a feature is, or copies, among those known later."""
    if feature in later_columns:
        return feature
    every_nth = slice(None, None, max(1, len(frame) // _MAX_COPY_CHECK_ROWS))
    for column in later_columns:
        if are_copies(frame[feature].iloc[every_nth], aligned[column].iloc[every_nth]):
            return column
    return None


def check_single_feature(config: ProjectConfig, frame: pd.DataFrame) -> Verdict:
    """Check that no feature alone ranks the target so well that it must contain it."""
    measure = _MEASURE_BY_TASK[config.task]
    limit = config.review.leakage_threshold
    make_verdict = partial(
        Verdict,
        "one_column",
        "No single feature predicts the target",
        severity=CheckSeverity.BLOCKS,
    )
    train = _select_compared_rows(frame)
    features = _list_unconfirmed_features(config, frame)
    if len(train) < _MIN_CHECKED_ROWS or not features:
        return make_verdict(
            outcome=CheckOutcome.CANNOT_TELL,
            sentence=(
                f"{len(train)} training rows and {len(features)} features are too few to check."
            ),
            observed=f"{len(train)} rows",
            limit=f"{measure} < {format_number(limit)}",
        )
    if config.task == "multiclass":
        associations = {}
        for feature, areas in _measure_class_associations(train, features, config).items():
            associations[feature] = min(areas.values(), default=0.5)
    else:
        associations = _measure_associations(train, features, config)
    strongest = max(associations, key=lambda feature: associations[feature])
    leaking = [feature for feature in features if associations[feature] >= limit]
    observed = f"{strongest}: {measure} {format_number(associations[strongest])}"
    make_verdict = partial(
        make_verdict,
        observed=observed,
        limit=f"below {format_number(limit)}",
        diagnostics={"strength": associations},
    )
    if not leaking:
        return make_verdict(
            outcome=CheckOutcome.PASSED,
            sentence=f"The strongest single feature is {observed}.",
        )
    return make_verdict(
        outcome=CheckOutcome.FAILED,
        sentence=(
            f"{', '.join(leaking)} alone ranks the target ({observed}): it is probably a leak."
        ),
        hint=(
            f"excluded_columns: [{', '.join(leaking)}] in mlops.yaml "
            f"if not known at prediction time, otherwise {_CONFIRMED}: [{', '.join(leaking)}]"
        ),
    )


def check_outstanding_feature(config: ProjectConfig, frame: pd.DataFrame) -> Verdict:
    """Check that no feature ranks the target far better than all others do: it may be a leak."""
    make_verdict = partial(
        Verdict,
        "outstanding_column",
        "No single feature stands out",
        severity=CheckSeverity.WARNS,
        limit="no feature far stronger than the others",
    )
    train = _select_compared_rows(frame)
    features = _list_unconfirmed_features(config, frame)
    if len(train) < _MIN_CHECKED_ROWS or not features:
        return make_verdict(
            outcome=CheckOutcome.CANNOT_TELL,
            sentence=(
                f"{len(train)} training rows and {len(features)} features are too few to check."
            ),
            observed=f"{len(train)} rows",
        )
    associations = _measure_associations(train, features, config)
    limit = config.review.leakage_threshold
    outstanding = find_outstanding_columns(associations, limit)
    # What is almost perfect is reported by ``check_single_feature``.
    outstanding = [column for column in outstanding if associations[column] < limit]
    make_verdict = partial(make_verdict, diagnostics={"strength": associations})
    if not outstanding:
        return make_verdict(
            outcome=CheckOutcome.PASSED,
            sentence="No feature ranks the target far better than the others.",
            observed="none",
        )
    measure = "|rank correlation|" if config.task == "regression" else "AUC"
    described = [f"{c}: {measure} {format_number(associations[c])}" for c in outstanding]
    names = ", ".join(outstanding)
    return make_verdict(
        outcome=CheckOutcome.FAILED,
        sentence=f"Features that alone rank the target far better than the others: "
        f"{', '.join(described)}. Each is a leak if it is known only later.",
        observed=", ".join(described),
        hint=f"excluded_columns: [{names}] in mlops.yaml if not known at prediction time, "
        f"otherwise {_CONFIRMED}: [{names}]",
    )


def _measure_associations(
    train: pd.DataFrame, features: list[str], config: ProjectConfig
) -> dict[str, float]:
    """Measure how well each feature ranks the target, of several classes the mean over these."""
    associations = {}
    if config.task == "multiclass":
        for feature in features:
            values = train[feature]
            associations[feature] = measure_mean_class_association(values, train[config.target])
        return associations
    target = train[config.target].to_numpy(dtype=float)
    halves = assign_halves(train, config)
    for feature in features:
        associations[feature] = measure_association(
            train[feature],
            target,
            binary=config.task == "binary",
            halves=halves,
        )
    return associations


def _measure_class_associations(
    train: pd.DataFrame, features: list[str], config: ProjectConfig
) -> dict[str, dict[int, float]]:
    """Measure how well each feature alone tells each of several classes from the rest."""
    target = train[config.target].to_numpy(dtype=float)
    halves = assign_halves(train, config)
    associations = {}
    for feature in features:
        associations[feature] = measure_class_associations(train[feature], target, halves)
    return associations


def _list_unconfirmed_features(config: ProjectConfig, frame: pd.DataFrame) -> list[str]:
    """Return the features of which nobody has confirmed that they are known in time."""
    confirmed = config.review.confirmed_features
    return [name for name in list_feature_columns(config, frame) if name not in confirmed]


def _select_compared_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Select training rows, evenly spread, to compare features with the target."""
    train = frame[frame[PART_COLUMN] == "train"]
    return train.iloc[:: max(1, len(train) // _MAX_COMPARED_ROWS)]


def check_single_classes(
    config: ProjectConfig, frame: pd.DataFrame, classes: Sequence[Any] = ()
) -> Verdict:
    """Check that no feature alone gives away one of several classes.

    A feature may tell a class apart for good reason, so it is for a person to judge: the check
    warns. A feature that gives away all classes is found by ``check_single_feature``.

    Parameters
    ----------
    classes : sequence
        The names of the classes in the order of their codes.
    """
    limit = config.review.leakage_threshold
    train = _select_compared_rows(frame)
    features = _list_unconfirmed_features(config, frame)
    strongest: dict[str, tuple[float, str]] = {}
    for feature, areas in _measure_class_associations(train, features, config).items():
        for code, area in areas.items():
            name = str(classes[code]) if code < len(classes) else str(code)
            strongest[feature] = max(strongest.get(feature, (0.0, "")), (area, name))
    make_verdict = partial(
        Verdict,
        "one_class",
        "No single feature gives away a class",
        severity=CheckSeverity.WARNS,
        limit=f"one-vs-rest AUC below {format_number(limit)}",
    )
    if not strongest:
        return make_verdict(
            outcome=CheckOutcome.CANNOT_TELL,
            sentence=f"No class has enough of the {len(train):,} training rows to check.",
            observed=f"{len(train):,} rows",
        )
    best = max(strongest, key=lambda feature: strongest[feature])
    area, name = strongest[best]
    observed = f"{best}: AUC {format_number(area)} for {name}"
    make_verdict = partial(
        make_verdict,
        observed=observed,
        diagnostics={"strength": {feature: pair[0] for feature, pair in strongest.items()}},
    )
    leaking = [feature for feature, (area, _) in strongest.items() if area >= limit]
    if not leaking:
        return make_verdict(
            outcome=CheckOutcome.PASSED,
            sentence=f"The feature that tells a class apart best is {observed}.",
        )
    described = ", ".join(f"{feature} ({strongest[feature][1]})" for feature in leaking)
    return make_verdict(
        outcome=CheckOutcome.FAILED,
        sentence=(
            f"Features that alone tell a class from all others: {described}. Each is a leak if it "
            "is not known at prediction time."
        ),
        hint=(
            f"excluded_columns: [{', '.join(leaking)}] in mlops.yaml "
            f"if not known at prediction time, otherwise {_CONFIRMED}: [{', '.join(leaking)}]"
        ),
    )


def check_feature_timing(
    project: Project,
    frame: pd.DataFrame,
    history: pd.DataFrame,
) -> Verdict:
    """Check that the project's features do not change with what became known later.

    The cut is the time of the middle row, most likely in a busy hour, where a leak of minutes
    shows. The newest rows up to it are compared: what was known too early differs there first.
    """
    config = project.config
    if config.time is None or not config.features:
        reason = "The project has no features of its own."
        if config.time is None:
            reason = "The table has no time column."
        return Verdict(
            "point_in_time",
            "Features use only what was known",
            CheckOutcome.NOT_APPLICABLE,
            CheckSeverity.BLOCKS,
            reason,
            observed="nothing to check",
            limit="no difference",
        )
    keys = list_key_columns(project)
    rows = history.merge(frame[keys], on=keys, how="inner")
    rows = rows.sort_values(config.time, kind="stable")
    first_half = rows.head(len(rows) // 2 + 1)
    cut = first_half[config.time].iloc[-1].to_pydatetime()
    return check_point_in_time(project, first_half.tail(_MAX_COMPARED_ROWS), history, cut)
