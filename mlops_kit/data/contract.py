"""The data contract: what each column of the source contains, as a YAML file that people edit.

A contract is inferred once from the rows known then, with a margin on every side, and belongs to
the project from then on. Rows that violate it are quarantined. A violation that no row can be
blamed for (a column that is gone, of another type or empty), or too many quarantined rows, break
the contract and stop the run.

To add a constraint: 1. a field with a ``description`` in ``ColumnContract``, 2. its check in
``mlops_kit.data.contract_rules`` if it concerns single rows, else in
``mlops_kit.data.contract_validation``.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator

from mlops_kit.core import dependencies
from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.files import write_text
from mlops_kit.core.lazy import pd
from mlops_kit.data.columns import ColumnKind, coerce_column
from mlops_kit.project.loader import read_yaml_file

_HEADER_FILE = Path(__file__).with_name("contract.head.yaml")
_LEGACY_KINDS = {"moment": ColumnKind.TIMESTAMP}  # names in contracts of earlier versions


class NewValues(StrEnum):
    """What becomes of a row with a value, or a column, that the contract does not list."""

    REJECT = "reject"
    ACCEPT = "accept"


class ColumnContract(BaseModel, extra="forbid", frozen=True):
    """The constraints on one column."""

    type: ColumnKind = Field(description="Kind of its values")
    missing: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Maximum share of missing values; 0: every row must have a value, everywhere",
    )
    min: int | float | None = Field(None, description="Smallest allowed value")
    max: int | float | None = Field(None, description="Largest allowed value")
    allowed: list[bool | int | float | str] | None = Field(None, description="The known values")
    new_values: NewValues = Field(
        NewValues.REJECT,
        description="What becomes of a row with a value that is not in ``allowed``: reject, or "
        "accept and count",
    )
    label: str = Field("", description="What the column is called on pages and in reports")
    unit: str = Field("", description="Unit of its values")
    description: str = Field("", description="What it is, in a sentence")

    @field_validator("type", mode="before")
    @classmethod
    def _translate_legacy_kind(cls, value: Any) -> Any:
        """Accept the kinds of contracts that an earlier version wrote."""
        if isinstance(value, str):
            return _LEGACY_KINDS.get(value, value)
        return value


class DataContract(BaseModel, extra="forbid", frozen=True):
    """The constraints on a table."""

    unique: list[str] = Field([], description="Columns that together identify a row")
    unknown_columns: NewValues = Field(
        NewValues.ACCEPT,
        description="What becomes of a row with a value in a column that is not listed: reject, "
        "or accept and count",
    )
    columns: dict[str, ColumnContract] = Field(description="The constraints on each column")


def load_contract(path: Path) -> DataContract:
    """Load a contract; the stage that runs depends on its file.

    Raises
    ------
    KitError
        If the file is missing, is not YAML or is not a valid contract; all mistakes are listed.
    """
    contract = read_contract(path)
    dependencies.record_file_read(path)
    return contract


def read_contract(path: Path) -> DataContract:
    """Read a contract for what changes no result, such as labels.

    Raises
    ------
    KitError
        As ``load_contract``.
    """
    if not path.is_file():
        raise KitError(
            f"no contract at {str(path)!r}",
            "the file set as contract.file",
            "mlops run: the stage that checks the contract writes it",
        )
    status = path.stat()
    return _parse_contract(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)
def _parse_contract(path: Path, _modified_ns: int, _size: int) -> DataContract:
    """Parse the contract file; it is parsed again when its time or size changes."""
    hint = f"edit {path.name}, or delete it: the next run infers it again"
    try:
        return DataContract.model_validate(read_yaml_file(path, hint) or {})
    except ValidationError as error:
        problems = [_describe_error(details) for details in error.errors()]
        raise KitError(
            f"{path.name} is not a valid contract:\n  " + "\n  ".join(problems),
            hint=hint,
        ) from error


def _describe_error(error: Any) -> str:
    """Describe one of pydantic's errors with the key, the value and what was expected."""
    location = error["loc"]
    key = ".".join(map(str, location))
    if error["type"] == "extra_forbidden":
        section = ColumnContract if len(location) == 3 else DataContract
        expected = suggest_names(str(location[-1]), section.model_fields)
        return f"{key}: unknown key; expected {expected}"
    message = error["msg"].replace("Input should be", "expected")
    return f"{key}: {error.get('input')!r}; {message}"


def save_contract(path: Path, contract: DataContract) -> None:
    """Write a contract atomically, with a header for the people who edit it."""
    text = yaml.safe_dump(
        contract.model_dump(
            mode="json",
            exclude_defaults=True,
        ),
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=160,
    )
    write_text(path, _HEADER_FILE.read_text(encoding="utf-8") + text)


def coerce_types(
    frame: pd.DataFrame, contract: DataContract
) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
    """Convert rows to the kinds of the contract.

    Returns
    -------
    converted : DataFrame
        The rows. Values that cannot be converted are missing; a column that the contract does not
        list is unchanged.
    invalid_values : dict of str to Series
        Those values, by column.
    """
    converted = frame.copy(deep=False)
    invalid_values = {}
    for name, column in contract.columns.items():
        if name not in frame:
            continue
        values, is_invalid = coerce_column(frame[name], column.type)
        if is_invalid.any():
            values = values.where(~is_invalid)
            invalid_values[name] = frame.loc[is_invalid, name]
        converted[name] = values
    return converted, invalid_values
