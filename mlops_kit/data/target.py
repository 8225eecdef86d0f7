"""The target as a number: classes as 0 and 1, values of a regression as float."""

from __future__ import annotations

import math
from typing import Any

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Table
from mlops_kit.data.columns import BOOLEAN_BY_TEXT, ColumnKind
from mlops_kit.data.contract import ColumnContract, load_contract
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project

_TITLE = "Target"
_MAX_LISTED_CLASSES = 5


class TargetEncoder:
    """Encodes single values of the target as training does.

    Training encodes a whole column (``encode_target``). Labels come one by one and in any type, so
    the classes and their kind are read from the data contract.
    """

    def __init__(self, project: Project) -> None:
        column = _load_target_contract(project)
        self.task = project.config.task
        self.kind = ColumnKind.NUMBER
        self.classes: list[Any] = [0, 1]
        if column is not None:
            self.kind = column.type
            if column.allowed:
                self.classes = sort_classes(column.allowed)
        self._codes = {
            self._normalize_class(value): float(code) for code, value in enumerate(self.classes)
        }

    def __call__(self, value: Any) -> float | None:
        """Return the value as a number; None if it is not a value of the target."""
        if value is None or isinstance(value, (list, dict)):
            return None
        if self.task == "regression":
            return _parse_finite_number(value)
        return self._codes.get(self._normalize_class(value))

    def _normalize_class(self, value: Any) -> str:
        """Return a text that is the same for a class in whatever type it comes."""
        is_numpy_value = hasattr(value, "dtype")
        if isinstance(value, bool) or (is_numpy_value and value.dtype == bool):
            if self.kind == ColumnKind.TEXT:
                return str(bool(value)).lower()
            return str(int(value))
        if isinstance(value, (int, float)) or is_numpy_value:
            is_whole = float(value).is_integer()
            return str(int(value)) if is_whole else str(value)
        text = str(value).strip()
        if self.kind == ColumnKind.BOOLEAN:
            if text.lower() in BOOLEAN_BY_TEXT:
                return str(int(BOOLEAN_BY_TEXT[text.lower()]))
            return text
        if self.kind in {ColumnKind.INTEGER, ColumnKind.NUMBER}:
            return text.removesuffix(".0")
        return text


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


def encode_target(frame: pd.DataFrame, config: ProjectConfig) -> tuple[pd.DataFrame, Table]:
    """Encode the target as a number.

    Of two classes, the larger one (or True) becomes 1 and the other 0. Unknown values are NaN.

    Returns
    -------
    encoded : DataFrame
        The rows with the target encoded.
    table : Table
        The number of rows by class.

    Raises
    ------
    RunFailedError
        If a binary target has more than two classes, or the values of a regression are not
        numbers.
    """
    if config.task == "regression":
        return _encode_values(frame, config.target)
    return _encode_classes(frame, config.target)


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


def _encode_classes(frame: pd.DataFrame, target: str) -> tuple[pd.DataFrame, Table]:
    """Encode a binary target."""
    classes = sort_classes(frame[target].dropna().unique())
    if len(classes) > 2:
        listed = ", ".join(map(str, classes[:_MAX_LISTED_CLASSES]))
        raise RunFailedError(
            f"the target {target!r} has {len(classes)} classes: {listed}",
            "two classes for a binary task",
            "set task: regression, or another target, in mlops.yaml",
        )
    codes = _assign_codes(classes)
    encoded = frame.copy(deep=False)
    values = []
    for value in frame[target]:
        values.append(codes.get(value, math.nan) if pd.notna(value) else math.nan)
    encoded[target] = pd.Series(
        values,
        index=frame.index,
        dtype="float64",
    )
    return encoded, _summarize_classes(encoded[target], codes)


def _assign_codes(classes: list[Any]) -> dict[Any, float]:
    """Assign a code to each class.

    0/1 and False/True keep their value even where a short period contains only one of them.
    """
    if all(value in (0, 1) for value in classes):
        return {value: float(value) for value in classes}
    return {value: float(code) for code, value in enumerate(classes)}


def _summarize_classes(encoded: pd.Series, codes: dict[Any, float]) -> Table:
    """Count the rows of each class."""
    counts = encoded.value_counts()
    rows = []
    positive_class = None
    for value, code in codes.items():
        count = int(counts.get(code, 0))
        rows.append((str(value), f"{code:.0f}", count))
        if code == 1:
            positive_class = value
    unknown_count = int(encoded.isna().sum())
    rows.append(("not known yet", "", unknown_count))
    share = format_number(float(encoded.mean()))
    sentence = (
        f"{encoded.name} is 1 where it is {positive_class!s}: "
        f"a share of {share} of the labeled rows."
    )
    return Table(
        _TITLE,
        sentence,
        pd.DataFrame(rows, columns=["class", "code", "rows"]),
    )


def sort_classes(classes: Any) -> list[Any]:
    """Sort classes in ascending order; as text if their types cannot be compared."""
    try:
        return sorted(classes)
    except TypeError:
        return sorted(classes, key=str)


def _convert_to_float(values: pd.Series, name: str) -> pd.Series:
    """Convert the target of a regression to float64."""
    try:
        return values.astype("float64")
    except (ValueError, TypeError) as error:
        raise RunFailedError(
            f"the target {name!r} is not a number: {values.dropna().iloc[0]!r}",
            "numbers for a regression",
            "set task: binary, or another target, in mlops.yaml",
        ) from error
