"""The target as a number: classes as 0 and 1, values of a regression as float."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Table
from mlops_kit.data.classes import (
    ClassCoding,
    count_classes,
    resolve_coding,
    resolve_column_coding,
    sort_classes,
)
from mlops_kit.data.columns import ColumnKind
from mlops_kit.data.contract import ColumnContract, load_contract
from mlops_kit.data.source import read_source
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project

_TITLE = "Target"
_DEFAULT_CODING = ClassCoding((0, 1), ColumnKind.NUMBER)


class TargetEncoder:
    """Encodes single values of the target.

    Training encodes a whole column (``encode_target``). Labels come one by one and in any type, so
    the classes and their kind are read from the data contract.

    Parameters
    ----------
    project : Project
        The project.
    classes : sequence, optional
        The classes in the order of their codes, as a version was trained with them; by default
        that of ``load_coding``.
    """

    def __init__(self, project: Project, classes: Sequence[Any] = ()) -> None:
        self.task = project.config.task
        self.coding = load_coding(project)
        if classes:
            self.coding = replace(self.coding, classes=tuple(classes))

    @property
    def kind(self) -> ColumnKind:
        """What the target's column holds."""
        return self.coding.kind

    @property
    def classes(self) -> list[Any]:
        """The classes in the order of their codes."""
        return list(self.coding.classes)

    def __call__(self, value: Any) -> float | None:
        """Return the value as a number; None if it is not a value of the target."""
        if value is None or isinstance(value, (list, dict)):
            return None
        if self.task == "regression":
            return _parse_finite_number(value)
        return self.coding.encode(value)


def load_coding(project: Project) -> ClassCoding:
    """Load the coding of the classes that the data contract lists.

    A project of an earlier version may lack ``positive``: its champion stays in service with the
    coding of that version, so the lack is not an error here.
    """
    try:
        return require_coding(project)
    except KitError:
        return load_legacy_coding(project)


def require_coding(project: Project) -> ClassCoding:
    """Load the coding of the classes that the data contract lists, as models are trained with it.

    Raises
    ------
    KitError
        See ``find_coding``.
    """
    return find_coding(project) or _DEFAULT_CODING


def find_coding(project: Project) -> ClassCoding | None:
    """Load the coding of the classes that the data contract lists.

    Returns
    -------
    ClassCoding or None
        None if the contract does not list the classes of a binary task.

    Raises
    ------
    KitError
        See ``resolve_coding``; also if the contract does not list the classes of a multiclass task.
    """
    config = project.config
    column = _load_target_contract(project)
    if column is None or not column.allowed:
        if config.task != "multiclass":
            return None
        raise KitError(
            f"{config.contract.file} does not list the classes of {config.target!r}",
            f"columns.{config.target}.allowed, which also says which classes a model may predict",
            f"add them, or delete {config.contract.file}: the next run infers it again",
        )
    counts = dict.fromkeys(column.allowed, 0)
    return resolve_coding(counts, project.config, column.type)


def list_classes(project: Project) -> list[Any]:
    """List the classes of the target in the order of their codes, by the data contract.

    Returns
    -------
    list
        Empty for a regression, and if the contract does not list the classes of a binary task.

    Raises
    ------
    KitError
        See ``find_coding``.
    """
    if project.config.task == "regression":
        return []
    coding = find_coding(project)
    return [] if coding is None else list(coding.classes)


def load_legacy_coding(project: Project) -> ClassCoding:
    """Load the coding of versions that do not state theirs: the classes in ascending order."""
    column = _load_target_contract(project)
    if column is None or not column.allowed:
        return _DEFAULT_CODING
    return ClassCoding(tuple(sort_classes(column.allowed)), column.type)


def check_classes(project: Project) -> None:
    """Check that the classes of the target can be encoded, before a stage runs.

    The classes are those of the contract; the source is read only if there is none yet, or to
    count the rows of classes that cannot be encoded.

    Raises
    ------
    KitError
        See ``resolve_coding``.
    """
    config = project.config
    if config.task == "regression" or config.source == "":
        return
    column = _load_target_contract(project)
    contract_error = None
    if column is not None and column.allowed:
        try:
            require_coding(project)
        except KitError as error:
            contract_error = error
        else:
            return
    as_of = None if config.as_of is None else config.to_utc(config.as_of)
    target = read_source(project, as_of)[config.target]
    resolve_coding(count_classes(target), config)
    if contract_error is not None:
        raise KitError(
            f"{config.contract.file}: {contract_error.message}",
            contract_error.expected,
            f"edit columns.{config.target}.allowed in {config.contract.file}",
        )


def _load_target_contract(project: Project) -> ColumnContract | None:
    """Return what the data contract says about the target, if anything."""
    file = project.resolve_path(project.config.contract.file)
    if not file.exists():
        return None
    return load_contract(file).columns.get(project.config.target)


def _parse_finite_number(value: Any) -> float | None:
    """Return a value as a finite float, or None if it is not one."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def encode_target(
    frame: pd.DataFrame, config: ProjectConfig, classes: Sequence[Any] = ()
) -> tuple[pd.DataFrame, Table]:
    """Encode the target as a number.

    Parameters
    ----------
    classes : sequence
        The classes in the order of their codes, of the project (``Stage.class_names``) or of a
        version; if empty those of the rows, which may lack a class.

    The positive class becomes 1 and the other 0 (``mlops_kit.data.classes``). Unknown values are
    NaN.

    Returns
    -------
    encoded : DataFrame
        The rows with the target encoded.
    table : Table
        The number of rows by class.

    Raises
    ------
    KitError
        If the classes of a binary target cannot be encoded, see ``resolve_coding``.
    RunFailedError
        If the values of a regression are not numbers.
    """
    frame = to_pandas(frame)
    if config.task == "regression":
        return _encode_values(frame, config.target)
    coding = resolve_column_coding(frame[config.target], config, classes)
    encoded = frame.copy(deep=False)
    encoded[config.target] = coding.encode_column(frame[config.target])
    return encoded, _summarize_classes(encoded[config.target], coding, config)


def _encode_values(frame: pd.DataFrame, target: str) -> tuple[pd.DataFrame, Table]:
    """Encode the target of a regression."""
    encoded = frame.copy(deep=False)
    encoded[target] = _convert_to_float(frame[target], target)
    known = int(encoded[target].notna().sum())
    data = pd.DataFrame(
        {
            "target": ["measured", "not known yet"],
            "rows": [known, len(encoded) - known],
        }
    )
    sentence = f"{target} is a number, known for {known:,} of {len(encoded):,} rows."
    table = Table(
        title=_TITLE,
        sentence=sentence,
        data=data,
    )
    return encoded, table


def _summarize_classes(encoded: pd.Series, coding: ClassCoding, config: ProjectConfig) -> Table:
    """Count the rows of each class."""
    counts = encoded.value_counts()
    rows = []
    for code, value in enumerate(coding.classes):
        if value is not None:
            rows.append((str(value), str(code), int(counts.get(code, 0))))
    unknown_count = int(encoded.isna().sum())
    rows.append(("not known yet", "", unknown_count))
    data = pd.DataFrame(rows, columns=["class", "code", "rows"])
    if config.task == "multiclass":
        return Table(_TITLE, _describe_class_balance(data, config.target), data)
    share = format_number(float(encoded.mean()))
    sentence = (
        f"The positive class of {encoded.name} is {coding.positive!s}: "
        f"a share of {share} of the labeled rows."
    )
    return Table(_TITLE, sentence, data)


def _describe_class_balance(data: pd.DataFrame, target: str) -> str:
    """Describe the most frequent and the rarest class of a table with a row per class."""
    classes = data.iloc[:-1].sort_values(["rows", "class"], ascending=[False, True])
    if classes.empty:
        return f"{target} is not known for any row."
    most_frequent = classes.iloc[0]
    rarest = classes.iloc[-1]
    share = format_percent(most_frequent["rows"] / max(1, classes["rows"].sum()))
    return (
        f"{target} has {len(classes)} classes; the most frequent is {most_frequent['class']} "
        f"with {share} of the labeled rows, the rarest {rarest['class']} with "
        f"{rarest['rows']:,} rows."
    )


def _convert_to_float(values: pd.Series, name: str) -> pd.Series:
    """Convert the target of a regression to float64."""
    try:
        return values.astype("float64")
    except (ValueError, TypeError) as error:
        raise RunFailedError(
            f"the target {name!r} is not a number: {values.dropna().iloc[0]!r}",
            "numbers for a regression",
            "set task: binary or multiclass, or another target, in mlops.yaml",
        ) from error
