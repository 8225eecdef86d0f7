"""Which stages have to run, and why: each is held against what earlier runs recorded of it.

A stage is skipped when some earlier run has it with all that it used unchanged and its outputs intact; so a
reverted edit is skipped again. A stage whose inputs are still to be made is decided when they are: if
they come out equal, it is skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from mlops_kit.core import files
from mlops_kit.pipeline import (
    current_project,
    file_hashes,
    fingerprint,
    param_types,
    params,
    stage_dependencies,
)
from mlops_kit.pipeline.history import (
    RunHistory,
    find_carried_stage,
    find_matching_run,
    get_content_hashes,
)
from mlops_kit.project import notebook_cells, run_folder, run_manifest
from mlops_kit.project.config.pipeline import RerunAfter, order_stages
from mlops_kit.project.config.value_types import format_duration
from mlops_kit.project.loader import Project
from mlops_kit.project.run_manifest import COMPLETED_STATUSES


@dataclass(frozen=True)
class PlannedStage:
    """What is to be done with a stage: run, skip, or depends (on inputs that are not made yet).

    ``why`` gives the reasons; ``origin`` is the run whose files a skipped stage takes over, ``entry`` what
    that run's manifest says of it.
    """

    stage: str
    action: str
    reasons: tuple[str, ...] = ()
    origin: Path | None = None
    entry: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The reasons as one line."""
        if self.action == "skip" and self.origin and self.origin.name != "draft":
            return "; ".join([f"unchanged since {self.origin.name}", *self.reasons])
        more = f" (and {len(self.reasons) - 3} more)" if len(self.reasons) > 3 else ""
        return "; ".join(self.reasons[:3]) + more


def plan_stage(
    now: current_project.CurrentProject,
    history: RunHistory,
    stage: str,
    values: Mapping[str, Any],
    inputs: Mapping[str, str | None],
    force: bool = False,
) -> PlannedStage:
    """Whether a stage runs.

    Parameters
    ----------
    values : dict
        The parameters that it would be given.
    inputs : dict
        Content of each artifact there is to read; None for one that is not made yet.
    """
    held = now.project.config.stages[stage]
    if force or held.rerun == "always":
        return PlannedStage(stage, "run", ("forced",) if force else ("always runs",))
    best: tuple[str, ...] = ()
    for folder, entry in history.iterate_completed(stage):
        old = entry["trace"]
        why = (
            []
            if held.rerun == "never"
            else [*islice(fingerprint.find_differences(now, stage, values, inputs, old), 20)]
        )
        why += (
            fingerprint.find_damaged_outputs(folder, entry["artifacts"], now.hashes, held.writes)
            if not why
            else []
        )
        if (
            not why
            and isinstance(held.rerun, RerunAfter)
            and (age := _compute_stage_age(entry)) > held.rerun.after
        ):
            return PlannedStage(
                stage,
                "run",
                (
                    f"its last run is {format_duration(age)} old, over {format_duration(held.rerun.after)}",
                ),
            )
        if not why:
            waits = (
                ()
                if held.rerun == "never"
                else tuple(
                    f"`{n}`"
                    for n in dict.fromkeys([*old["inputs"], *old["files"]])
                    if inputs.get(n, "") is None
                )
            )
            back = tuple(
                f"`{n}` is put back"
                for n in fingerprint.find_displaced_outputs(
                    now.project, entry["artifacts"], now.hashes
                )
            )
            return (
                PlannedStage(stage, "depends", waits, folder, entry)
                if waits
                else PlannedStage(stage, "skip", back, folder, entry)
            )
        best = best or tuple(why)
    if (done := _plan_from_draft(now, stage, values, inputs)) is not None:
        return done
    return PlannedStage(stage, "run", best or (_describe_last_attempt(history, stage),))


def _describe_last_attempt(history: RunHistory, stage: str) -> str:
    """What there is to say of a stage that never ended well."""
    tried = next(
        (
            (f, e)
            for f, made in history
            if (e := made["stages"].get(stage, {})).get("status", "not run") != "not run"
        ),
        None,
    )
    if tried and tried[1]["status"] in COMPLETED_STATUSES:
        return f"what it used in {tried[0].name} was not recorded"
    return (
        f"it has not ended well yet: {run_manifest.describe_status(tried[1])} in {tried[0].name}"
        if tried
        else "it has not been run yet"
    )


def _plan_from_draft(
    now: current_project.CurrentProject,
    stage: str,
    values: Mapping[str, Any],
    inputs: Mapping[str, str | None],
) -> PlannedStage | None:
    """The stage as somebody has run it by hand, if that is what a run would do: top to bottom, in a fresh kernel, with all as it is now, and saved."""
    project, draft = now.project, now.project.reports_folder / "draft"
    file, book = (
        draft / run_folder.STAGE_RECORDS_FOLDER / f"{stage}.json",
        project.get_notebook_path(stage),
    )
    if not file.exists():
        return None
    record = files.read_json(file)
    hand = record.get("by_hand", {})
    if (
        not record.get("done")
        or record.get("apart")
        or hand.get("ran") != now.hash_cells(stage)
        or book.stat().st_mtime < hand["at"] - 1
    ):
        return None
    counts = [c["execution_count"] for c in notebook_cells.load_code_cells(book)]
    given = {
        n: v if (v := hand["values"].get(n)) or n not in params.SHARED_PARAMETERS else values[n]
        for n in values
    }
    if counts != list(range(1, len(counts) + 1)) or given != dict(values):
        return None
    read = {n: str(inputs[n]) for n in record["read"] if inputs.get(n) is not None}
    made = stage_dependencies.collect_dependencies(now, stage, values, hand["used"], read)
    if (
        read != record["read"]
        or [*fingerprint.find_differences(now, stage, values, inputs, made)]
        or [
            *fingerprint.find_damaged_outputs(
                draft, record["artifacts"], now.hashes, now.project.config.stages[stage].writes
            )
        ]
    ):
        return None
    moment = datetime.fromtimestamp(hand["at"])
    facts = {k: record[k] for k in ("sentence", "logged", "artifacts", "mlflow_run") if k in record}
    entry = {
        **facts,
        "params": param_types.encode_value(values),
        "trace": made,
        "fingerprint": fingerprint.compute_fingerprint(made),
        "started": datetime.fromtimestamp(record["opened"], UTC).isoformat(timespec="milliseconds"),
        "seconds": round(hand["at"] - record["opened"], 2),
        "parts": fingerprint.hash_code_origins(now),
    }
    return PlannedStage(stage, "skip", (f"{book.name} as saved {moment:%H:%M}",), draft, entry)


def _compute_stage_age(entry: Mapping[str, Any]) -> timedelta:
    """How long ago a stage really ran, to the minute."""
    age = datetime.now(UTC) - datetime.fromisoformat(entry["started"])
    return timedelta(minutes=age // timedelta(minutes=1))


def plan_stages(
    project: Project,
    chosen: list[str],
    values: Mapping[str, Mapping[str, Any]],
    force: bool = False,
    hashes: file_hashes.FileHashes | None = None,
) -> list[PlannedStage]:
    """The plan: a decision for each chosen stage, in their order; nothing is run or written."""
    now, history = current_project.CurrentProject(project, hashes), RunHistory(project)
    inputs: dict[str, str | None] = {}
    found = []
    for stage in order_stages(project.config.stages):
        if stage not in chosen:
            inputs |= (
                get_content_hashes(kept[1])
                if (kept := find_carried_stage(now, history, stage))
                else {}
            )
            continue
        made = plan_stage(now, history, stage, values[stage], inputs, force)
        if made.action == "skip":
            inputs |= get_content_hashes(made.entry)
            now.assume_restored(made.entry["artifacts"])
        else:
            names = [
                *project.config.stages[stage].writes,
                *next((e["artifacts"] for _, e in history.iterate_completed(stage)), {}),
            ]
            inputs |= dict.fromkeys(names)
        found.append(made)
    now.hashes.save_cache()
    return found


def find_up_to_date_run(
    project: Project, plan: list[PlannedStage], history: RunHistory
) -> dict[str, Any] | None:
    """The latest run of the same two moments, if all of a plan is skipped and that run has it all."""
    same = find_matching_run(project, history)
    if same is None or any(d.action != "skip" for d in plan):
        return None
    folder, made = same
    entries = made["stages"]
    hashes = file_hashes.FileHashes(project)
    if any(fingerprint.find_displaced_outputs(project, d.entry["artifacts"], hashes) for d in plan):
        return None
    whole = all(
        entries.get(d.stage, {}).get("status") in COMPLETED_STATUSES
        and (
            d.origin == folder or entries[d.stage].get("fingerprint") == d.entry.get("fingerprint")
        )
        for d in plan
    )
    return {**made, "nothing_to_do": True} if whole else None
