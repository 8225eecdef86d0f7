"""The data contract: what each column holds, kept as YAML that people edit, checked with pandera.

A contract is inferred once from the rows known then, with room on every side, and is the project's
from then on. A row that breaks it is put aside; what no row can be blamed for (a column that is gone,
of another type, or empty), or too many rows put aside, breaks the contract and stops the run.

To add a rule: 1. a field with a ``description`` in ``Column``, 2. its pandera check in ``checks``,
with a name in words (rows it fails are put aside) or one of ``BREAKS`` (it stops the run).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError

from mlops_kit.core import dependencies
from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.files import write_text
from mlops_kit.core.lazy import LazyModule, pd
from mlops_kit.data.columns import ColumnKind, coerce_column
from mlops_kit.project.loader import read_yaml_file

pa = LazyModule("pandera.pandas")
_HEADER_FILE = Path(__file__).with_name("contract.head.yaml")


class ColumnContract(BaseModel, extra="forbid", frozen=True):
    """What one column holds."""

    type: ColumnKind = Field(description="What its values are")
    missing: float = Field(1.0, ge=0, le=1, description="Largest share of missing values")
    min: int | float | None = Field(None, description="Smallest value")
    max: int | float | None = Field(None, description="Largest value")
    allowed: list[bool | int | float | str] | None = Field(
        None, description="All values there may be"
    )


class DataContract(BaseModel, extra="forbid", frozen=True):
    """What a table holds; ``unique`` are the columns that together name a row."""

    unique: list[str] = Field([], description="Columns that together name a row")
    columns: dict[str, ColumnContract] = Field(description="Each column by name")


def load_contract(path: Path) -> DataContract:
    """Read a contract.

    Raises
    ------
    KitError
        If the file is missing, is not YAML or says what no contract can; every mistake at once.
    """
    if not path.is_file():
        raise KitError(
            f"no contract at {str(path)!r}",
            "the file named under contract.file",
            "mlops run --only prepare",
        )
    dependencies.record_file_read(path)
    found = path.stat()
    return _parse_contract(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=16)
def _parse_contract(path: Path, changed: int, size: int) -> DataContract:
    """The contract in a file as it is now."""
    cure = f"edit {path.name}, or take it away: the next run infers it anew"
    try:
        return DataContract.model_validate(read_yaml_file(path, cure) or {})
    except ValidationError as error:
        raise KitError(
            f"{path.name} does not say a contract:\n  "
            + "\n  ".join(map(_describe_error, error.errors())),
            hint=cure,
        ) from error


def _describe_error(error: Any) -> str:
    """One of pydantic's errors in words."""
    place = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{place}: unknown key; expected {suggest_names(str(error['loc'][-1]), (ColumnContract if len(error['loc']) == 3 else DataContract).model_fields)}"
    return f"{place}: {error.get('input')!r}; {error['msg'].replace('Input should be', 'expected')}"


def save_contract(path: Path, contract: DataContract) -> None:
    """Write a contract atomically, with a header for those who edit it."""
    write_text(
        path,
        _HEADER_FILE.read_text(encoding="utf-8")
        + yaml.safe_dump(
            contract.model_dump(exclude_defaults=True),
            sort_keys=False,
            allow_unicode=True,
            default_flow_style=None,
            width=160,
        ),
    )


def coerce_types(
    frame: pd.DataFrame, contract: DataContract
) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
    """Rows in the contract's types, as training saw them, and by column the values that are of no such type.

    Those values are missing in the rows; a column that the contract does not know stays as it is.
    """
    made, odd = frame.copy(deep=False), {}
    for name, column in contract.columns.items():
        if name in frame:
            made[name], wrong = coerce_column(frame[name], column.type)
            if wrong.any():
                made[name], odd[name] = made[name].where(~wrong), frame.loc[wrong, name]
    return made, odd
