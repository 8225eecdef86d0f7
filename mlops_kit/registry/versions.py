"""The one door to MLflow: runs, models, versions, aliases, and who promoted what.

A model is saved in skops format and never as pickle; which types it may hold is decided here and
not by the model (MLflow writes its allow-list into the model and believes it when it loads). Its
canonical hash leaves out object ids and clock times, so that two equal fits have one hash.
"""

from __future__ import annotations

import getpass
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mlops_kit.core import files
from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.lazy import LazyModule, pd
from mlops_kit.core.serialization import to_json_value
from mlops_kit.data.columns import list_key_columns
from mlops_kit.db import approvals
from mlops_kit.project.loader import Project
from mlops_kit.registry.models import load_model
from mlops_kit.registry.store import connect_mlflow

if TYPE_CHECKING:
    from mlops_kit.stages.stage import Stage

if TYPE_CHECKING:
    import mlflow
    import skops.io as skops
else:
    mlflow, skops = (LazyModule("mlflow"), LazyModule("skops.io"))
REQUIRED_TAGS = {
    "uri",
    "sha256",
    "model_hash",
    "evidence_hash",
    "features",
    "threshold",
    "judged",
    "as_of",
    "review",
    "sample",
    "author",
}  # what a review records of a version


def find_champion(project: Project) -> dict[str, Any] | None:
    """The version that serves, by the database of decisions: number, hashes, facts. None if there is none.

    MLflow's alias is not asked: anyone can move it.

    Raises
    ------
    RunFailed
        If the version is not the one that was approved any more.
    """
    present = approvals.get_current_promotion(project)
    if present is None:
        return None
    found = load_version(project, present.version)
    if (found["model_hash"], found["evidence_hash"]) != (present.model_hash, present.evidence_hash):
        raise RunFailedError(
            f"version {present.version} has changed since it was approved: hash {found['model_hash'][:12]}",
            present.model_hash[:12],
            "mlops rollback --reason …, or mlops run",
        )
    return found


def require_champion(project: Project) -> dict[str, Any]:
    """The version that serves, as of ``champion``.

    Raises
    ------
    KitError
        If there is none.
    """
    found = find_champion(project)
    if found is None:
        raise KitError(
            f"{project.config.name} has no champion yet",
            "a run whose review passed and was approved",
            "mlops run",
        )
    return found


def load_champion(project: Project) -> tuple[dict[str, Any], Any]:
    """The champion, ready to answer: its facts with ``features`` and ``threshold`` as values, and its model; an error if there is none."""
    found = require_champion(project)
    return {
        **found,
        "features": json.loads(found["features"]),
        "threshold": json.loads(found["threshold"]),
    }, load_model(project, found)


def load_version(project: Project, version: str) -> dict[str, Any]:
    """What the review recorded of a version.

    Raises
    ------
    RunFailed
        If there is no such version, or no review registered it.
    """
    try:
        with connect_mlflow(project) as client:
            tags = client.get_model_version(project.config.name, version).tags
    except mlflow.exceptions.MlflowException as error:
        raise RunFailedError(
            f"the registry has no version {version!r} of {project.config.name}",
            "a version that a review registered",
            "mlops run",
        ) from error
    absent = sorted(REQUIRED_TAGS - set(tags))
    if absent:
        raise RunFailedError(
            f"version {version} has no record of {', '.join(absent)}",
            "a version that a review registered",
            "mlops run",
        )
    return {**tags, "version": version}


def sync_aliases(project: Project) -> None:
    """Set MLflow's aliases to what the database of decisions says."""
    present = approvals.get_current_promotion(project)
    if present is not None:
        with connect_mlflow(project) as client:
            for alias, version in (
                ("champion", present.version),
                ("previous", present.previous_version),
            ):
                if version:
                    client.set_registered_model_alias(project.config.name, alias, version)


def check_champion_alias(project: Project) -> str:
    """Where MLflow's ``champion`` points if not to the version that serves, in words; empty if all is well."""
    present, stands = approvals.get_current_promotion(project), None
    with (
        connect_mlflow(project) as client,
        suppress(mlflow.exceptions.MlflowException),
    ):  # there is no such alias
        stands = client.get_model_version_by_alias(project.config.name, "champion")
    if stands is None:
        return f"is not set; version {present.version} serves" if present else ""
    if present is not None and str(stands.version) == present.version:
        return ""
    known = {
        "version": str(stands.version),
        "model_hash": stands.tags.get("model_hash", ""),
        "evidence_hash": stands.tags.get("evidence_hash", ""),
    }
    said = approvals.find_approval(project, known)
    word = (
        "was approved but not promoted"
        if said and said.outcome == "approved"
        else "nobody approved"
    )
    return f"points to version {stands.version}, which {word}; {f'version {present.version}' if present else 'none'} serves"


def load_comparison_model(
    stage: Stage, present: dict[str, Any] | None, rows: pd.DataFrame
) -> tuple[Any, list[str], str]:
    """Who answers for the champion on judged rows: the fitted model or None, its columns, and a sentence that says which.

    The model that serves was fitted again on all rows known then, so it may have learnt from these; a
    comparison would then favour it. In its place the model answers that was judged with it, if these
    rows were kept from that one.

    Parameters
    ----------
    present : dict or None
        What ``champion`` gave.
    """
    if present is None:
        return None, [], "There is no champion yet."
    name, columns = f"Version {present['version']}", json.loads(present["features"])
    absent = [c for c in columns if c not in rows.columns]
    if absent:
        return (
            None,
            columns,
            f"{name} needs the column {absent[0]!r}, which these rows do not have.",
        )
    model, how = select_comparison_model(stage, present, rows)
    return None if model is None else load_model(stage.project, model), columns, f"{name} {how}"


def select_comparison_model(
    stage: Stage, present: dict[str, Any], rows: pd.DataFrame
) -> tuple[dict[str, str] | None, str]:
    """The champion's model that has not learnt from these rows, or None; and why."""
    time, judged = stage.config.time, json.loads(present["judged"])
    refitted = judged["uri"] != present["uri"]
    if time is not None and rows[time].min() >= pd.Timestamp(present["as_of"]):
        return present, "has seen none of these rows."
    if (
        rows[time].min() >= pd.Timestamp(judged["from"])
        if time is not None
        else judged["rows"] == hash_row_keys(stage, rows)
    ):
        return (
            judged,
            "answers by the model it was judged by, since the one that serves has seen these rows."
            if refitted
            else "has seen none of these rows.",
        )
    return None, "has learnt from some of these rows, so the two cannot be compared on them."


def hash_row_keys(stage: Stage, rows: pd.DataFrame) -> str:
    """Which rows these are, whatever their order."""
    keys = list_key_columns(stage.project)
    return files.hash_table(rows[keys].sort_values(keys, ignore_index=True))


def register_version(stage: Stage, verdicts: Any) -> dict[str, Any]:
    """Register the run's model as ``challenger``; a draft finds the version its run registered.

    Returns
    -------
    dict
        ``version`` (a number as text, or None), ``model_hash``, ``outcome`` (a sentence).
    """
    record, rows, time = stage.read("model"), stage.read("held_out_scores"), stage.config.time
    passed = not any(v.is_blocking for v in verdicts)
    judged = {
        **record["judged"],
        "from": str(rows[time].min()) if time else "",
        "rows": hash_row_keys(stage, rows),
    }
    tags = {
        "uri": record["uri"],
        "sha256": record["sha256"],
        "model_hash": record["model_hash"],
        "features": json.dumps(record["features"]),
        "evidence_hash": files.hash_json(
            {n: a.content for n, a in stage.record.artifacts.items() if a.content}
        ),
        "author": getpass.getuser(),
        "threshold": json.dumps(record["threshold"]),
        "review": "passed" if passed else "failed",
        "run": stage.run_id,
        "judged": json.dumps(judged),
        "sample": str(stage.sample),
        "as_of": str(stage.as_of),
        "verdicts": json.dumps(
            [
                to_json_value({"check": v.check, "outcome": v.outcome, "sentence": v.sentence})
                for v in verdicts
            ]
        ),
    }
    with connect_mlflow(stage.project) as client:
        known = client.search_model_versions(f"name = '{stage.project.config.name}'")
        found = next(
            (
                str(v.version)
                for v in known
                if v.tags.get("model_hash") == record["model_hash"]
                and v.tags.get("uri") == record["uri"]
            ),
            None,
        )
        if not stage.is_draft:
            if found is None:
                found = create_version(client, stage.project, record, tags)
            elif found not in {p.version for p in approvals.list_promotions(stage.project)}:
                for key in tags.keys() - {
                    "author"
                }:  # who made it stays, and what was said of the earlier evidence counts no more
                    client.set_model_version_tag(stage.project.config.name, found, key, tags[key])
            client.set_registered_model_alias(stage.project.config.name, "challenger", found)
    return {
        "version": found,
        "model_hash": record["model_hash"],
        "passed": passed,
        "outcome": f"Version {found} is registered as challenger."
        if found
        else "A draft is not registered.",
    }


def create_version(
    client: mlflow.MlflowClient, project: Project, record: dict[str, Any], tags: dict[str, str]
) -> str:
    """Make a version of the project's registered model."""
    try:
        client.create_registered_model(project.config.name)
    except mlflow.exceptions.MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return str(client.create_model_version(project.config.name, record["uri"], tags=tags).version)


def promote_version(project: Project, version: str, by: str, reason: str) -> dict[str, Any]:
    """Let an approved version serve: a row in the database of decisions, which MLflow's alias then follows.

    Raises
    ------
    RunFailed
        If its review did not pass, it was made from a sample or changed since, nobody approved it, or
        another promotion came in between.
    """
    before = approvals.get_current_promotion(project)
    facts = load_version(project, version)
    if before is None or (before.version, before.model_hash) != (version, facts["model_hash"]):
        before = approvals.record_promotion(project, facts, before, by, reason)
    sync_aliases(project)
    return {
        "version": version,
        "before": before.previous_version,
        "by": before.actor,
        "reason": before.reason,
        "at": before.promoted_at,
    }


def roll_back(project: Project, by: str, reason: str) -> dict[str, Any]:
    """Let the version serve that served before.

    Raises
    ------
    KitError
        If there is none, or the person may not.
    """
    present = approvals.get_current_promotion(project)
    if present is None or present.previous_version is None:
        raise KitError(
            "there is no earlier version to go back to", "two promotions or more", "mlops run"
        )
    approvals.check_permission(project.config.people, by, approves=False)
    if not reason.strip():
        raise KitError(
            "going back needs a reason", "a sentence that others can read later", '--reason "why"'
        )
    return promote_version(project, present.previous_version, by, f"rollback: {reason}")
