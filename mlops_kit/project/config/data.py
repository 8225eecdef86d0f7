"""Data."""

from __future__ import annotations

from pydantic import (
    Field,
)

from mlops_kit.project.config.base import ConfigSection
from mlops_kit.project.config.value_types import Duration, NameList, Share


class QuerySource(ConfigSection):
    """A source that is a query."""

    sql: str = Field(description="The SELECT to read")
    url: str = Field(
        description="SQLAlchemy URL of the database; ${NAME} is taken from the environment"
    )


class SplitConfig(ConfigSection):
    """How the newest (or a random) part is kept from every choice."""

    test: Share | Duration = Field(
        0.2, description="Kept for the review: the newest 30d (a duration), or a share of the rows"
    )
    folds: int = Field(
        4, ge=2, le=20, description="Folds of the cross-validation, in time where there is time"
    )


class ContractConfig(ConfigSection):
    """How much bad data is put aside before it stops the run."""

    file: str = Field(
        "contract.yaml",
        description="The data contract; inferred once if it is missing, edited by people",
    )
    max_quarantined_share: Share = Field(
        0.05, description="Largest share of rows that may be quarantined"
    )


class LabelsConfig(ConfigSection):
    """A table in which the values of the target arrive; it may grow."""

    source: str | QuerySource = Field(
        description="File, folder or glob (CSV, Parquet, Excel), or {sql, url}"
    )
    key: NameList = Field(
        default_factory=list,
        description="Columns that name the row, as in 'id'; or the one column prediction_id; empty: as in 'id'",
    )
    time: str | None = Field(
        None,
        description="Column with the moment from which the value was known; null: the moment at which it is read",
    )
    value: str = Field("", description="Column with the value; empty: the target's name")
