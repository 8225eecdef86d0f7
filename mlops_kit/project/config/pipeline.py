"""Settings of the stages, of runs and of the cleanup; the default stages."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field

from mlops_kit.project.config.base import ConfigSection
from mlops_kit.project.config.value_types import ByteSize, Duration, NameList


class RetentionConfig(ConfigSection):
    """What ``mlops clean`` keeps; runs in service, waiting or running are kept in any case."""

    min_runs: int = Field(20, ge=1, description="Number of newest runs that are always kept")
    max_age: Duration = Field(timedelta(days=90), description="Age at which other runs are removed")
    max_cache_age: Duration = Field(
        timedelta(days=30),
        description="Age at which files in .mlops/cache that were not written since are removed",
    )
    max_data_size: ByteSize = Field(
        10**9, description="Maximum size of a file that is stored with a run to reproduce it"
    )


class RerunAfter(ConfigSection):
    """A stage that runs again when its last run is older than this, or when something changed."""

    after: Duration = Field(description="Age of the last run at which the stage runs again")


class RunConfig(ConfigSection):
    """How a run is executed."""

    jobs: int = Field(
        0, ge=0, description="Number of stages and branches that run in parallel; 0: one per core"
    )
    kernels: Literal["warm", "cold"] = Field(
        "warm",
        description="warm: kernels are forked from a process that has imported the libraries; "
        "cold: ordinary kernels",
    )
    idle: Duration = Field(
        timedelta(minutes=15),
        description="Time without work after which the resident fork server ends, which keeps "
        "imported libraries in memory for the next run; 0s: every run imports them again",
    )
    kernel_start_timeout: Duration = Field(
        timedelta(seconds=60), description="Maximum time for a kernel to start"
    )


class StageConfig(ConfigSection):
    """One stage: its notebook, what it needs and what it writes."""

    notebook: str = Field("", description="The notebook, relative to the folder of notebooks")
    cwd: str = Field(
        "project",
        description="Folder in which its kernel starts: project, notebook (the folder of its "
        "notebook), or another folder, relative to the project",
    )
    needs: NameList = Field(
        default_factory=list, description="Stages that must have succeeded before"
    )
    writes: NameList = Field(default_factory=list, description="Artifacts that it must write")
    files: NameList = Field(
        default_factory=list,
        description="Files of the project that it reads; it runs again when one changes",
    )
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="Values of its parameters cell, or {value, min, max, choices}",
    )
    env: NameList = Field(
        default_factory=list,
        description="Environment variables that it reads; it runs again when one changes",
    )
    rerun: Literal["changed", "always", "never"] | RerunAfter = Field(
        "changed", description="When it runs again: changed, always, never, or {after: 7d}"
    )
    shell_errors: Literal["fail", "ignore"] = Field(
        "fail",
        description="What a failing !command or %%bash cell does: fail the stage, or be ignored",
    )
    timeout: Duration | None = Field(
        None, description="Maximum duration of the stage; null: no limit"
    )
    cell_timeout: Duration | None = Field(
        None, description="Maximum duration of one cell; null: no limit"
    )
    memory: ByteSize | None = Field(
        None,
        description="Maximum resident memory of the stage and its child processes, such as 4GB; "
        "null: no limit",
    )
    retries: int = Field(
        0,
        ge=0,
        le=20,
        description="Number of retries after a failure",
    )
    backoff: Duration = Field(
        timedelta(seconds=5),
        description="Wait before the first retry; every further wait is twice as long",
    )
    foreach: dict[str, list[Any]] = Field(
        default_factory=dict,
        description="Parameters and their values: from this stage on the chain runs once per "
        "combination",
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


def check_written_names(stages: dict[str, StageConfig]) -> None:
    """Refuse an artifact that two stages write.

    Raises
    ------
    ValueError
        The message names the artifact and both stages.
    """
    writers: dict[str, str] = {}
    for stage, config in stages.items():
        for name in config.writes:
            writer = writers.setdefault(posixpath.normpath(name), stage)
            if writer != stage:
                raise ValueError(
                    f"stages.{stage}.writes: {name!r} is also written by {writer}; "
                    "expected a name of its own for each artifact"
                )


def order_stages(stages: dict[str, StageConfig]) -> list[str]:
    """Order stages so that each comes after those it needs.

    Raises
    ------
    ValueError
        If stages need one another in a circle; the message names it.
    """
    ordered: list[str] = []

    def add_stage(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = " → ".join([*path[path.index(name) :], name])
            raise ValueError(
                f"stages need each other in a circle: {circle}; remove one of these needs"
            )
        if name in ordered:
            return
        for needed in stages[name].needs:
            add_stage(needed, (*path, name))
        ordered.append(name)

    for name in stages:
        add_stage(name, ())
    return ordered


def format_rerun_command(stages: Mapping[str, StageConfig], artifact: str) -> str:
    """Return the command that writes an artifact again, from the stage that declares it."""
    for stage, config in stages.items():
        if artifact in config.writes:
            return f"mlops run --from {stage} --force"
    return "mlops run --force"
