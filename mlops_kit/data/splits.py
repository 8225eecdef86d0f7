"""Splitting rows into training set and held-out set.

The held-out set is the newest rows, or a random share of a table without time; no choice uses it.
``mlops_kit.data.splitters`` has the rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.formatting import format_percent
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Table
from mlops_kit.data.columns import PART_COLUMN, find_excluded_rows, list_feature_columns
from mlops_kit.data.row_weights import check_row_weights
from mlops_kit.data.splitters import (
    ValidationScheme,
    assign_parts,
    find_verdict_start,
    get_validation_scheme,
)
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.config.value_types import format_duration

_PART_NAMES = ("train", "gap", "test", "unlabelled")  # values of the column ``part`` of a run
_HELD_OUT_GROUP = "held_out_group"  # the part of earlier rows of a held-out group
MIN_PART_ROWS = 20  # fewer rows say nothing about a model


@dataclass(frozen=True, repr=False)
class SplitTable(Table):
    """The parts of a split, with the scheme by which they were formed.

    Parameters
    ----------
    scheme : ValidationScheme or None
        The scheme; None in runs of earlier versions.
    """

    scheme: ValidationScheme | None = None


def split_rows(
    frame: pd.DataFrame, config: ProjectConfig, seed: int, classes: Sequence[Any] = ()
) -> tuple[pd.DataFrame, SplitTable]:
    """Assign each row to a part: train, gap, test, unlabelled, or held_out_group.

    Parameters
    ----------
    frame : DataFrame
        Rows with the target encoded, see ``mlops_kit.data.target.encode_target``.
    config : ProjectConfig
        ``validation.test`` is a duration before the newest labeled row, or a share of the labeled
        rows.
    seed : int
        Seed of the random split, if the table has no time.
    classes : sequence
        The names of the classes in the order of their codes, for the words of an error.

    Returns
    -------
    rows : DataFrame
        The rows with the column ``part`` before the features.
    table : SplitTable
        Size, mean target (of a multiclass task the rows of the rarest class) and period of each
        part, and the scheme.

    Raises
    ------
    RunFailedError
        If the labeled rows have one class only, a class is too rare, train or test would be too
        small, or weights of labeled rows cannot be used.
    """
    frame = _hide_excluded_labels(to_pandas(frame), config)
    check_row_weights(frame, config)
    is_labeled = frame[config.target].notna()
    parts = assign_parts(frame, config, is_labeled, seed)
    _check_parts(frame[config.target], parts, config)
    if config.task == "multiclass":
        _check_class_rows(frame[config.target], parts, config, classes)
    rows = frame.copy(deep=False)
    rows.insert(_find_first_feature(frame, config), PART_COLUMN, parts)
    return rows, _describe_parts(rows, config)


def _hide_excluded_labels(frame: pd.DataFrame, config: ProjectConfig) -> pd.DataFrame:
    """Hide the labels of excluded days: no fit and no evaluation uses a row without a label."""
    is_excluded = find_excluded_rows(frame, config)
    if not is_excluded.any():
        return frame
    return frame.assign(**{config.target: frame[config.target].mask(is_excluded)})


def _find_first_feature(frame: pd.DataFrame, config: ProjectConfig) -> int:
    """Return the position of the first feature; after the last column if there is none."""
    feature_columns = list_feature_columns(config, frame)
    for position, column in enumerate(frame.columns):
        if column in feature_columns:
            return position
    return len(frame.columns)


def _too_few_rows_error(test_rows: int, train_rows: int) -> RunFailedError:
    """Build the error for a part that is too small."""
    return RunFailedError(
        f"the split leaves {train_rows:,} rows to train on and {test_rows:,} to test on",
        f"at least {MIN_PART_ROWS} labeled rows in each",
        "provide more rows, or set another validation.test in mlops.yaml",
    )


def _check_parts(target: pd.Series, parts: pd.Series, config: ProjectConfig) -> None:
    """Check that train and test are large enough and contain both classes."""
    train_rows = int((parts == "train").sum())
    test_rows = int((parts == "test").sum())
    removed_rows = int((parts == _HELD_OUT_GROUP).sum())
    if removed_rows and train_rows < MIN_PART_ROWS:
        raise RunFailedError(
            f"{removed_rows:,} of {removed_rows + train_rows:,} earlier rows are of groups of "
            f"{config.validation.group!r} that are held out; {train_rows:,} rows remain to train "
            "on",
            f"at least {MIN_PART_ROWS} rows of other groups",
            "hold out a shorter period (validation.test), or remove validation.group if the model "
            "will predict for groups that it has seen",
        )
    if min(train_rows, test_rows) < MIN_PART_ROWS:
        raise _too_few_rows_error(test_rows, train_rows)
    if config.task != "binary":
        return
    for part, row_count in (("train", train_rows), ("test", test_rows)):
        classes = target[parts == part].unique()
        if len(classes) < 2:
            raise RunFailedError(
                f"all {row_count:,} {part} rows have one class of {config.target!r}: "
                f"{classes[0]:g}",
                "rows of both classes in train and test",
                "provide more rows, or set another validation.test in mlops.yaml",
            )


def _check_class_rows(
    target: pd.Series, parts: pd.Series, config: ProjectConfig, classes: Sequence[Any]
) -> None:
    """Check that each class of a multiclass task can be learned and validated.

    Raises
    ------
    RunFailedError
        If a class has fewer training rows than there are folds, or there is only one class.
    """
    min_rows = max(2, config.validation.folds)
    codes = target.dropna()
    if codes.nunique() < 2:
        raise RunFailedError(
            f"all {len(codes):,} labeled rows have one class of {config.target!r}",
            "rows of two classes or more",
            "provide more rows, or set another target in mlops.yaml",
        )
    training_rows = target[parts == "train"].value_counts()
    names = list(classes) or [f"number {code:.0f}" for code in sorted(codes.unique())]
    rare = []
    for code, name in enumerate(names):
        count = int(training_rows.get(code, 0))
        if count < min_rows:
            rare.append(f"{name} ({count:,} rows)")
    if rare:
        raise RunFailedError(
            f"{len(rare)} of {len(names)} classes of {config.target!r} are too rare among the "
            f"training rows: {', '.join(rare)}",
            f"at least {min_rows} training rows of each class, one per fold",
            "merge rare classes or leave their rows out in the source (and in the contract), or "
            "set fewer validation.folds",
        )


def _describe_parts(frame: pd.DataFrame, config: ProjectConfig) -> SplitTable:
    """Describe the size, mean target and period of each part."""
    period_columns = ["first", "last"] if config.time else []
    statistic = "rows of the rarest class" if config.task == "multiclass" else "mean target"
    scheme = get_validation_scheme(config)
    part_names = list(_PART_NAMES)
    if config.time and scheme.group:
        part_names.insert(1, _HELD_OUT_GROUP)
    records = []
    for part in part_names:
        rows = frame[frame[PART_COLUMN] == part]
        has_mean = len(rows) and part != "unlabelled"
        mean = _summarize_target(rows[config.target], config) if has_mean else None
        records.append((part, len(rows), mean, *_describe_period(rows, config)))
    data = pd.DataFrame(records, columns=["part", "rows", statistic, *period_columns])
    rows_by_part = dict(zip(data["part"], data["rows"], strict=True))
    notes = [scheme.describe()]
    if rows_by_part["gap"]:
        delay = format_duration(config.label_delay)
        notes.append(
            f"A gap of {delay} precedes the held-out set: the labels of these rows were not known "
            "when it begins."
        )
    notes += _describe_change(frame, config)
    excluded_rows = int(find_excluded_rows(frame, config).sum())
    if excluded_rows:
        days = ", ".join(config.validation.excluded_days)
        notes.append(
            f"{excluded_rows:,} rows of excluded days ({days}) count as unlabelled: they neither "
            "train nor evaluate the model."
        )
    notes += _describe_groups(frame, rows_by_part.get(_HELD_OUT_GROUP, 0), config)
    return SplitTable(
        title="Training set and held-out set",
        sentence=_summarize_parts(rows_by_part, config),
        data=data,
        units=dict.fromkeys(period_columns, config.timezone),
        notes=tuple(notes),
        scheme=scheme,
    )


def _summarize_parts(rows_by_part: Mapping[str, int], config: ProjectConfig) -> str:
    """Summarize the size of each part in a sentence whose numbers add up to its first one."""
    all_rows = sum(rows_by_part.values())
    held_out_rows = rows_by_part["test"]
    share = format_percent(held_out_rows / max(1, all_rows - rows_by_part["unlabelled"]))
    selection = f"{share} of the labeled rows, drawn at random"
    if config.time:
        selection = f"the newest {share} of the labeled rows"
    counts = [
        f"{rows_by_part['train']:,} training rows",
        f"{held_out_rows:,} held out for the review ({selection})",
    ]
    other_parts = {
        "gap": "in the gap between them",
        _HELD_OUT_GROUP: "earlier ones of held-out groups",
        "unlabelled": "without a label",
    }
    for part, description in other_parts.items():
        if rows_by_part.get(part):
            counts.append(f"{rows_by_part[part]:,} {description}")
    subject = f"{all_rows:,} accepted rows"
    if all_rows == config.sample:
        subject = f"A sample of {all_rows:,} accepted rows"
    return f"{subject}: {', '.join(counts)}."


def _summarize_target(target: pd.Series, config: ProjectConfig) -> float:
    """Summarize the target of a part: its mean, or the rows of the rarest class that occurs."""
    if config.task == "multiclass":
        return float(target.value_counts().min())
    return float(target.mean())


def _describe_change(frame: pd.DataFrame, config: ProjectConfig) -> list[str]:
    """Describe what a suspected change means for the held-out set."""
    change_point = config.train.change_point
    if change_point is None:
        return []
    labeled = frame[frame[config.target].notna()]
    day = f"{change_point:%Y-%m-%d}"
    if find_verdict_start(labeled, config) is None:
        return [
            f"A change is suspected on {day}, but the held-out set is the usual one: too few rows "
            "follow the change, or the usual one is small enough."
        ]
    return [
        f"A change is suspected on {day}: only as many rows are held out as a verdict needs, and "
        "without a gap before them, so that newer rows train the model."
    ]


def _describe_groups(frame: pd.DataFrame, removed_rows: int, config: ProjectConfig) -> list[str]:
    """Describe how many groups are in each part, and what was done to keep them apart."""
    group = config.validation.group
    if group is None:
        return []
    notes = []
    groups_by_part = frame.groupby(PART_COLUMN)[group].nunique(dropna=False)
    train_groups = int(groups_by_part.get("train", 0))
    test_groups = int(groups_by_part.get("test", 0))
    notes.append(f"{train_groups:,} groups of {group!r} to train on, {test_groups:,} held out.")
    if removed_rows:
        notes.append(
            f"{removed_rows:,} earlier rows of held-out groups are removed from training, so that "
            "the model is evaluated on groups that it has not seen."
        )
    without_group = int(frame[group].isna().sum())
    if without_group:
        notes.append(f"{without_group:,} rows without a value in {group!r} count as one group.")
    return notes


def _describe_period(rows: pd.DataFrame, config: ProjectConfig) -> list[str]:
    """Describe the first and last time of rows; empty for a table without time."""
    if not config.time:
        return []
    if rows.empty:
        return ["", ""]
    times = rows[config.time].dt.tz_convert(config.timezone)
    return [f"{time:%Y-%m-%d %H:%M}" for time in (times.min(), times.max())]
