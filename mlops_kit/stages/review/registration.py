"""Registering the reviewed model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlops_kit.core.results import Verdict
from mlops_kit.registry import comparison, registration, versions
from mlops_kit.registry.models import SavedModel
from mlops_kit.stages.stage import Stage


def register_reviewed_model(stage: Stage, verdicts: Iterable[Verdict]) -> dict[str, Any]:
    """Register the run's model as ``challenger``; a draft only finds the version of its run.

    Returns
    -------
    dict
        See ``mlops_kit.registry.registration.register_version``.
    """
    record = stage.read("model")
    held_out_rows = stage.read("held_out_scores")
    time = stage.config.time
    evaluation = versions.EvaluationModel(
        uri=record["judged"]["uri"],
        model_hash=record["judged"]["model_hash"],
        sha256=record["judged"]["sha256"],
        first_time=str(held_out_rows[time].min()) if time else "",
        row_key_hash=comparison.hash_row_keys(stage.project, held_out_rows),
    )
    artifact_hashes = {
        name: artifact.content
        for name, artifact in stage.record.artifacts.items()
        if artifact.content
    }
    candidate = registration.VersionCandidate(
        model=SavedModel.from_record(record),
        evaluation=evaluation,
        features=record["features"],
        threshold=record["threshold"],
        classes=record.get("classes", []),  # without them the version is read as an earlier one
        artifact_hashes=artifact_hashes,
        run=stage.run_id,
        sample_rows=stage.sample,
        as_of=stage.as_of,
        is_draft=stage.is_draft,
    )
    return registration.register_version(stage.project, candidate, verdicts)
