"""Target."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Table
from mlops_kit.data import columns, contract
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project


class TargetEncoder:
    """Turns a value of the target into its number, as training does; None for what is no value of it."""

    def __init__(self, project: Project) -> None:
        self.task, file = project.config.task, project.resolve_path(project.config.contract.file)
        column = (
            contract.load_contract(file).columns.get(project.config.target)
            if file.exists()
            else None
        )
        self.kind = column.type if column else "number"
        self.classes = sort_classes(column.allowed) if column and column.allowed else [0, 1]
        self.codes = {self.normalize_class(c): float(i) for i, c in enumerate(self.classes)}

    def __call__(self, value: Any) -> float | None:
        """The value as a number, or None."""
        if value is None or isinstance(value, (list, dict)):
            return None
        if self.task != "regression":
            return self.codes.get(self.normalize_class(value))
        with suppress(TypeError, ValueError):
            return (
                number
                if not isinstance(value, bool) and math.isfinite(number := float(value))
                else None
            )
        return None

    def normalize_class(self, value: Any) -> str:
        """How a class is told apart: whole numbers and truth values of any type are one."""
        if isinstance(value, bool) or hasattr(value, "dtype") and value.dtype == bool:
            return str(int(value)) if self.kind != "text" else str(bool(value)).lower()
        if isinstance(value, (int, float)) or hasattr(value, "dtype"):
            return str(int(value)) if float(value).is_integer() else str(value)
        plain = str(value).strip()
        if self.kind == "boolean":
            return (
                str(int(columns.BOOLEAN_BY_TEXT[plain.lower()]))
                if plain.lower() in columns.BOOLEAN_BY_TEXT
                else plain
            )
        return plain.removesuffix(".0") if self.kind in {"integer", "number"} else plain


def encode_target(frame: pd.DataFrame, config: ProjectConfig) -> tuple[pd.DataFrame, Table]:
    """The target as a number: 0 or 1 (the larger class, or True, is 1), NaN where it is not known.

    Raises
    ------
    RunFailed
        If a binary target has more than two classes, or a regression's is no number.
    """
    values, out = frame[config.target], frame.copy(deep=False)
    if config.task == "regression":
        out[config.target] = _convert_to_float(values, config.target)
        known = int(out[config.target].notna().sum())
        data = pd.DataFrame(
            {"target": ["measured", "not known yet"], "rows": [known, len(out) - known]}
        )
        return out, Table(
            "What is predicted",
            f"{config.target} is a number, known for {known:,} of {len(out):,} rows.",
            data,
        )
    classes = sort_classes(values.dropna().unique())
    if len(classes) > 2:
        raise RunFailedError(
            f"the target {config.target!r} has {len(classes)} classes: {', '.join(map(str, classes[:5]))}",
            "two classes for a binary task",
            "task: regression, or another target, in mlops.yaml",
        )
    # 0/1 and False/True mean themselves even where a short window holds only one of them.
    codes = (
        {c: float(c) for c in classes}
        if all(c in (0, 1) for c in classes)
        else {c: float(i) for i, c in enumerate(classes)}
    )
    out[config.target] = pd.Series(
        [codes.get(v, float("nan")) if pd.notna(v) else float("nan") for v in values],
        index=frame.index,
        dtype="float64",
    )
    counts = out[config.target].value_counts()
    rows = [
        *((str(c), f"{codes[c]:.0f}", int(counts.get(codes[c], 0))) for c in classes),
        ("not known yet", "", int(out[config.target].isna().sum())),
    ]
    positive = next((c for c in classes if codes[c] == 1), None)
    sentence = f"{config.target} is 1 where it is {positive!s}: a share of {format_number(float(out[config.target].mean()))} of the labelled rows."
    return out, Table(
        "What is predicted", sentence, pd.DataFrame(rows, columns=["class", "code", "rows"])
    )


def sort_classes(classes: Any) -> list[Any]:
    """Classes from the smallest to the largest; by their text where types are mixed."""
    try:
        return sorted(classes)
    except TypeError:
        return sorted(classes, key=str)


def _convert_to_float(values: pd.Series, name: str) -> pd.Series:
    """A regression's target as float64."""
    try:
        return values.astype("float64")
    except (ValueError, TypeError) as error:
        raise RunFailedError(
            f"the target {name!r} is no number: {values.dropna().iloc[0]!r}",
            "numbers for a regression",
            "task: binary, or another target, in mlops.yaml",
        ) from error
