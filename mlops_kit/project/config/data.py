"""Settings of the source, the validation, the data contract and the labels."""

from __future__ import annotations

from pydantic import Field

from mlops_kit.project.config.base import ConfigSection
from mlops_kit.project.config.value_types import Duration, NameList, Share


class QuerySource(ConfigSection):
    """A source that is an SQL query."""

    sql: str = Field(description="The SELECT statement")
    url: str = Field(
        description="SQLAlchemy URL of the database; ${NAME} is replaced by the environment "
        "variable NAME"
    )


class ValidationConfig(ConfigSection):
    """How rows are split wherever a model is fitted on some and evaluated on others."""

    test: Share | Duration = Field(
        0.2,
        description="Held-out set for the review: the newest 30d (a duration), or a share of the "
        "rows",
    )
    folds: int = Field(
        4,
        ge=2,
        le=20,
        description="Folds of the cross-validation; in time order if the table has timestamps",
    )
    group: str | None = Field(
        None,
        description="Column whose rows belong together, such as the patient of a visit: no group "
        "is in two parts of a split, and intervals resample whole groups. The column is not a "
        "feature. null: rows are split one by one",
    )
    stratify: bool | None = Field(
        None,
        description="Whether random splits keep the class shares, or the distribution of a "
        "regression's target; null: where the classes have enough rows. A split in time cannot",
    )
    repeats: int = Field(
        1,
        ge=1,
        le=20,
        description="How often the random folds are drawn; a recipe's score is the mean over all "
        "of them. Folds in time order can only be formed once",
    )


class ContractConfig(ConfigSection):
    """Where the data contract is, and how many rows may violate it."""

    file: str = Field(
        "contract.yaml",
        description="The data contract; inferred from the data if the file is missing, then "
        "edited by people",
    )
    max_quarantined_share: Share = Field(
        0.05, description="Maximum share of rows that may be quarantined; above it the run fails"
    )


class LabelsConfig(ConfigSection):
    """A table from which labels are imported; it may grow."""

    source: str | QuerySource = Field(
        description="File, folder or glob (CSV, Parquet, Excel), or {sql, url}"
    )
    key: NameList = Field(
        default_factory=list,
        description="Columns that identify the row, as in 'id', or the single column "
        "prediction_id; empty: the columns of 'id'",
    )
    time: str | None = Field(
        None,
        description="Column with the time from which the label was known; null: the time of the "
        "import",
    )
    value: str = Field("", description="Column with the label; empty: the target's name")
