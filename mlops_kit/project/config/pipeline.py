"""Pipeline."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from pydantic import (
    Field,
)

from mlops_kit.project.config.base import ConfigSection
from mlops_kit.project.config.value_types import ByteSize, Duration, NameList


class RetentionConfig(ConfigSection):
    """What ``mlops clean`` leaves; whatever serves, waits or runs stays in any case."""

    min_runs: int = Field(20, ge=1, description="Fewest newest runs that are always kept")
    max_age: Duration = Field(timedelta(days=90), description="A run older than this goes")
    max_cache_age: Duration = Field(
        timedelta(days=30), description="What was not written in .mlops/cache for this long goes"
    )
    max_data_size: ByteSize = Field(
        10**9, description="Largest file that is kept with a run, so that it can be made again"
    )


class RerunAfter(ConfigSection):
    """A stage that runs again when its last run is this long ago, or when something changed."""

    after: Duration = Field(description="Age at which it runs again")


class RunConfig(ConfigSection):
    """How the chain is carried out."""

    jobs: int = Field(
        0, ge=0, description="Stages (and branches) that run at once; 0: as many as there are cores"
    )
    kernels: Literal["warm", "cold"] = Field(
        "warm",
        description="Kernels forked from a process that has the imports already, or plain ones",
    )
    kernel_start_timeout: Duration = Field(
        timedelta(seconds=60), description="Longest that a kernel may take to start"
    )


class StageConfig(ConfigSection):
    """One stage: its notebook, what it waits for, what it must hand on."""

    notebook: str = Field("", description="The notebook, relative to the project")
    needs: NameList = Field(
        default_factory=list, description="Stages that must have succeeded before"
    )
    writes: NameList = Field(default_factory=list, description="Artifacts it must hand on")
    files: NameList = Field(
        default_factory=list,
        description="Files of the project that it reads; if one changes it runs again",
    )
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="Values for its parameters cell, or {value, least, most, choices}",
    )
    env: NameList = Field(
        default_factory=list,
        description="Environment variables that it reads; if one changes it runs again",
    )
    rerun: Literal["changed", "always", "never"] | RerunAfter = Field(
        "changed", description="When it runs again: changed, always, never, or {after: 7d}"
    )
    timeout: Duration | None = Field(
        None, description="Longest that the stage may take; null: no limit"
    )
    cell_timeout: Duration | None = Field(
        None, description="Longest that one cell may take; null: no limit"
    )
    memory: ByteSize | None = Field(
        None,
        description="Most resident memory of the stage with all that it starts, such as 4GB; null: no limit",
    )
    retries: int = Field(0, ge=0, le=20, description="How often it is tried again when it fails")
    backoff: Duration = Field(
        timedelta(seconds=5),
        description="Wait before the first retry; each further wait is twice as long",
    )
    foreach: dict[str, list[Any]] = Field(
        default_factory=dict,
        description="Parameters and their values: from this stage on the chain runs once for each combination",
    )


DEFAULT_STAGES: dict[str, dict[str, Any]] = {
    "explore": {"notebook": "01_explore.ipynb", "needs": [], "writes": ["overview", "profile"]},
    "prepare": {
        "notebook": "02_prepare.ipynb",
        "needs": [],
        "writes": ["features", "contract_report", "split"],
    },
    "train": {
        "notebook": "03_train.ipynb",
        "needs": ["prepare"],
        "writes": ["recipe", "held_out_scores", "model"],
    },
    "review": {
        "notebook": "04_review.ipynb",
        "needs": ["train"],
        "writes": ["metrics", "verdicts", "card", "version"],
        "files": ["card.yaml"],
    },
    "deploy": {
        "notebook": "05_deploy.ipynb",
        "needs": ["review"],
        "writes": ["promotion", "scores"],
    },
    "monitor": {
        "notebook": "06_monitor.ipynb",
        "needs": ["deploy"],
        "writes": ["drift", "realized_performance", "alerts"],
    },
    "retrain": {"notebook": "07_retrain.ipynb", "needs": ["monitor"], "writes": ["decision"]},
}


def order_stages(stages: dict[str, StageConfig]) -> list[str]:
    """Stages in an order that respects their needs.

    Raises
    ------
    ValueError
        If the needs go round in a circle; the circle is named.
    """
    done: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise ValueError(
                f"stages need each other in a circle: {' → '.join([*path[path.index(name) :], name])}; take one of these needs out"
            )
        if name not in done:
            for need in stages[name].needs:
                visit(need, (*path, name))
            done.append(name)

    for name in stages:
        visit(name, ())
    return done
