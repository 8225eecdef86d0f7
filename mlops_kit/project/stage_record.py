"""What a stage did in a run: the record that it writes, and that reports and plans read.

Each stage of a run has one JSON file, ``stages/<stage>.json`` in the run's folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mlops_kit.core.files import write_json
from mlops_kit.project.artifacts import Artifact
from mlops_kit.project.run_folder import STAGE_RECORDS_FOLDER, rename_artifacts


class ShownResult(BaseModel):
    """A result that the notebook displayed.

    Attributes
    ----------
    title, sentence : str
        The result's title and its take-away.
    figure : str or None
        Path of the SVG file relative to the run; None for a table.
    front : bool
        True for the figure that represents the stage on the run's page.
    numbers : list
        The key numbers, as JSON.
    """

    title: str
    sentence: str = ""
    figure: str | None = None
    front: bool = False
    numbers: list[Any] = []


class ManualExecution(BaseModel):
    """What was executed in a notebook that somebody ran by hand.

    A later run takes the stage over if it would execute the same code on the same dependencies.
    """

    model_config = ConfigDict(populate_by_name=True)

    cell_hashes: list[str] = Field(alias="ran")
    values: dict[str, Any] = {}
    used: dict[str, Any] = {}
    finished_at: float = Field(alias="at")


class StageRecord(BaseModel):
    """The record of one stage.

    Attributes
    ----------
    read : dict of str to str
        Hash of each artifact that the stage has read, by name.
    logged : dict
        Numbers for MLflow, by name.
    depends_on_draft : bool
        The notebook asked whether it is a draft, so its results are not those of a run.
    done : bool
        The notebook has reached ``hand_over``.
    """

    model_config = ConfigDict(populate_by_name=True, validate_assignment=False)

    schema_version: int = 1
    stage: str
    artifacts: dict[str, Artifact] = {}
    logged: dict[str, Any] = {}
    shown: list[ShownResult] = []
    verdicts: list[dict[str, Any]] = []
    sentence: str = ""
    read: dict[str, str] = {}
    opened_at: float | None = Field(default=None, alias="opened")
    done: bool | None = None
    depends_on_draft: bool | None = Field(default=None, alias="apart")
    manual_execution: ManualExecution | None = Field(default=None, alias="by_hand")
    mlflow_run: str | None = None


def read_stage_record(run: Path, stage: str) -> StageRecord | None:
    """Read a stage's record; None if the stage has not written one."""
    path = run / STAGE_RECORDS_FOLDER / f"{stage}.json"
    if not path.exists():
        return None
    # Plain JSON: the record keeps verdicts as they are stored.
    stored = json.loads(path.read_text(encoding="utf-8"))
    for key in ("artifacts", "read"):
        stored[key] = rename_artifacts(stored.get(key, {}))
    return StageRecord.model_validate({"stage": stage, **stored})


def write_stage_record(run: Path, record: StageRecord) -> None:
    """Write a stage's record into a run's folder; fields that are None are left out."""
    values = record.model_dump(by_alias=True)
    present = {key: value for key, value in values.items() if value is not None}
    write_json(run / STAGE_RECORDS_FOLDER / f"{record.stage}.json", present)
