"""Run log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mlops_kit.core.lazy import LazyModule, pd
from mlops_kit.project.loader import Project
from mlops_kit.project.run_manifest import RunManifest
from mlops_kit.registry.models import save_model
from mlops_kit.registry.store import connect_mlflow, ensure_experiment
from mlops_kit.registry.versions import sync_aliases

if TYPE_CHECKING:
    import mlflow
    import skops.io as skops
else:
    mlflow, skops = (LazyModule("mlflow"), LazyModule("skops.io"))
_MLFLOW_STATUS_BY_STATUS = {
    "succeeded": "FINISHED",
    "killed": "KILLED",
    "interrupted": "KILLED",
}  # the rest of the statuses are MLflow's FAILED


def select_notable_trials(
    trials: pd.DataFrame, recipe: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any], float]]:
    """What of a search gets a run of its own: each baseline, and the best finished trial of each family."""
    yield from (
        (f"baseline {name}", {}, float(value)) for name, value in recipe["baselines"].items()
    )
    finished = trials[trials["state"] == "finished"].astype({"score": float})
    best = finished.groupby("family")["score"].agg(
        "idxmin" if recipe["less_is_better"] else "idxmax"
    )
    for row in finished.loc[sorted(best)].to_dict("records"):
        yield (
            f"best {row['family']}",
            {"trial": row["trial"], "parameters": row["parameters"]},
            float(row["score"]),
        )


def log_training_run(
    project: Project,
    models: dict[str, Any],
    example: pd.DataFrame,
    facts: dict[str, Any],
    search: tuple[pd.DataFrame, dict[str, Any]],
    tags: dict[str, str],
) -> dict[str, Any]:
    """Log a search and the models that came of it: one MLflow run, a child run for each of the notable trials.

    Parameters
    ----------
    models : dict of str to pipeline
        By the name under which each is logged.
    search : DataFrame, dict
        The trials, logged as one table, and the recipe that won.

    Returns
    -------
    dict
        ``run`` (its id), and for each model what ``save_model`` returns.
    """
    trials, recipe = search
    with (
        connect_mlflow(project) as client,
        mlflow.start_run(experiment_id=ensure_experiment(project, client), tags=tags) as active,
    ):
        mlflow.log_params(
            {"family": recipe["family"], **recipe["params"], "threshold": recipe["threshold"]}
        )
        mlflow.log_metrics({recipe["metric"]: recipe["score"], "trials": recipe["trials"]})
        mlflow.log_table(trials, "trials.json")
        for name, params, score in select_notable_trials(trials, recipe):
            with mlflow.start_run(
                experiment_id=ensure_experiment(project, client), run_name=name, nested=True
            ):
                mlflow.log_params(params)
                mlflow.log_metric(recipe["metric"], score)
        saved = {
            name: save_model(client, project, name, model, example, facts)
            for name, model in models.items()
        }
    return {"run": active.info.run_id, **saved}


def end_abandoned_runs(project: Project, run: str) -> None:
    """End as killed what a run that was killed has left running in MLflow."""
    with connect_mlflow(project) as client:
        for left in client.search_runs(
            [ensure_experiment(project, client)],
            f"attributes.status = 'RUNNING' and tags.run = '{run}'",
        ):
            client.set_terminated(left.info.run_id, "KILLED")


def log_pipeline_run(project: Project, manifest: RunManifest) -> dict[str, str]:
    """Mirror a finished run in MLflow: one run, a child a stage, their numbers and parameters.

    A stage that logged a run of its own (training) keeps it: it becomes the stage's child.
    """
    ids = {}
    with connect_mlflow(project) as client:
        where = ensure_experiment(project, client)
        tags = {
            "mlflow.runName": manifest.run,
            "run": manifest.run,
            "status": manifest.status,
            "sample": str(manifest.sample),
            "git": str(manifest.git.commit),
            "mlflow.note.content": manifest.note,
        }
        known = manifest.mlflow  # of a run that waited for an approval and went on
        parent = known.get("run") or client.create_run(where, tags=tags).info.run_id
        client.set_tag(parent, "status", manifest.status)
        for name, entry in (
            (n, e) for n, e in manifest.stages.items() if n not in known and not e.is_idle
        ):
            told = {
                "mlflow.parentRunId": parent,
                "mlflow.runName": name,
                "run": manifest.run,
                "status": entry.status,
            }
            ids[name] = child = entry.mlflow_run or client.create_run(where, tags=told).info.run_id
            for key, value in told.items():
                client.set_tag(child, key, value)
            mlflow.log_params(entry.params, run_id=child)
            mlflow.log_metrics(
                {k: float(v) for k, v in entry.logged.items() if isinstance(v, (int, float))},
                run_id=child,
            )
            client.set_terminated(child, _MLFLOW_STATUS_BY_STATUS.get(entry.status, "FAILED"))
        client.set_terminated(parent, _MLFLOW_STATUS_BY_STATUS.get(manifest.status, "FAILED"))
    sync_aliases(project)
    return {**known, "run": parent, **ids}
