"""Logging to MLflow: training runs with their notable trials, and finished pipeline runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlops_kit.core.lazy import pd
from mlops_kit.project.identity import identify_author
from mlops_kit.project.loader import Project
from mlops_kit.project.run_manifest import RunManifest, StageEntry
from mlops_kit.registry.models import SavedModel, save_model
from mlops_kit.registry.recipe import Recipe
from mlops_kit.registry.store import connect_mlflow, ensure_experiment, mlflow
from mlops_kit.registry.versions import sync_aliases

_USER_TAG = "mlflow.user"
# MLflow's status for the statuses of runs and stages; all others are FAILED.
_MLFLOW_STATUS_BY_STATUS = {
    "succeeded": "FINISHED",
    "skipped": "FINISHED",  # run by hand, and taken over
    "killed": "KILLED",
    "interrupted": "KILLED",
}


@dataclass(frozen=True)
class SearchResult:
    """The trials of a search, one row each, and the recipe that won."""

    trials: pd.DataFrame
    recipe: Recipe


@dataclass(frozen=True)
class NotableTrial:
    """A trial or baseline that gets an MLflow run of its own."""

    name: str
    params: Mapping[str, Any]
    score: float


@dataclass(frozen=True)
class LoggedTraining:
    """The MLflow run of a training, and the models saved in it, by name."""

    run_id: str
    models: Mapping[str, SavedModel]


def select_notable_trials(search: SearchResult) -> Iterator[NotableTrial]:
    """Yield each baseline, and the best finished trial of each model family."""
    for name, score in search.recipe.baselines.items():
        yield NotableTrial(f"baseline {name}", {}, float(score))
    is_finished = search.trials["status"] == "complete"
    finished = search.trials[is_finished].astype({"score": float})
    find_best = "idxmin" if search.recipe.less_is_better else "idxmax"
    best_trials = finished.groupby("family")["score"].agg(find_best)
    for trial in finished.loc[sorted(best_trials)].to_dict("records"):
        params = {"trial": trial["trial"], "parameters": trial["parameters"]}
        yield NotableTrial(f"best {trial['family']}", params, float(trial["score"]))


def log_training_run(
    project: Project,
    models: Mapping[str, Any],
    example: pd.DataFrame,
    metadata: Mapping[str, Any],
    search: SearchResult,
    tags: dict[str, str],
) -> LoggedTraining:
    """Log a search and its models: one MLflow run, with a child run per notable trial.

    Parameters
    ----------
    models : mapping of str to pipeline
        The fitted models, by the name under which each is logged.
    example, metadata
        See ``mlops_kit.registry.models.save_model``.
    tags : dict of str to str
        Tags of the MLflow run.
    """
    recipe = search.recipe
    params = {
        "family": recipe.family,
        **recipe.params,
        "threshold": recipe.threshold,
    }
    # MLflow itself would take the user from the environment.
    user_tags = {_USER_TAG: identify_author(project.config.people)}
    with connect_mlflow(project) as client:
        experiment_id = ensure_experiment(project, client)
        with mlflow.start_run(
            experiment_id=experiment_id,
            tags={**tags, **user_tags},
        ) as run:
            mlflow.log_params(params)
            mlflow.log_metrics({recipe.metric: recipe.score, "trials": recipe.trials})
            mlflow.log_table(search.trials, "trials.json")
            for trial in select_notable_trials(search):
                with mlflow.start_run(
                    experiment_id=experiment_id,
                    run_name=trial.name,
                    nested=True,
                    tags=user_tags,
                ):
                    mlflow.log_params(dict(trial.params))
                    mlflow.log_metric(recipe.metric, trial.score)
            saved_models = {
                name: save_model(
                    client,
                    project,
                    name,
                    model,
                    example,
                    metadata,
                )
                for name, model in models.items()
            }
    return LoggedTraining(run.info.run_id, saved_models)


def end_abandoned_runs(project: Project, run: str) -> None:
    """Mark MLflow runs as killed that a killed pipeline run left running."""
    query = f"attributes.status = 'RUNNING' and tags.run = '{run}'"
    with connect_mlflow(project) as client:
        experiment_id = ensure_experiment(project, client)
        for abandoned_run in client.search_runs([experiment_id], query):
            client.set_terminated(abandoned_run.info.run_id, "KILLED")


def log_pipeline_run(project: Project, manifest: RunManifest) -> dict[str, str]:
    """Log a finished pipeline run: one MLflow run, with a child run per stage that ran.

    A stage that was run by hand, and that the run took over, has one too. A stage that logged a run
    of its own, as training does, keeps it as its child run. Stages that were logged before the run
    waited for an approval are not logged again.

    Returns
    -------
    dict of str to str
        MLflow's run ids by stage; the id of the parent run under ``run``.
    """
    ids = dict(manifest.mlflow)
    user = identify_author(project.config.people)
    with connect_mlflow(project) as client:
        experiment_id = ensure_experiment(project, client)
        parent_id = ids.get("run") or _create_parent_run(client, experiment_id, manifest, user)
        ids["run"] = parent_id
        client.set_tag(parent_id, "status", manifest.status)
        for name, entry in manifest.stages.items():
            if name not in manifest.mlflow and entry.is_logged_with_run:
                tags = {
                    "mlflow.parentRunId": parent_id,
                    "mlflow.runName": name,
                    _USER_TAG: user,
                    "run": manifest.run,
                    "status": entry.status,
                    "run_by_hand": str(entry.was_run_by_hand),
                }
                ids[name] = _log_stage(
                    client,
                    experiment_id,
                    entry,
                    tags,
                )
        client.set_terminated(parent_id, _get_mlflow_status(manifest.status))
    sync_aliases(project)
    return ids


def _create_parent_run(
    client: mlflow.MlflowClient,
    experiment_id: str,
    manifest: RunManifest,
    user: str,
) -> str:
    """Create the MLflow run of a pipeline run; return its id."""
    tags = {
        "mlflow.runName": manifest.run,
        _USER_TAG: user,
        "run": manifest.run,
        "status": manifest.status,
        "sample": str(manifest.sample),
        "git": str(manifest.git.commit),
        "mlflow.note.content": manifest.note,
    }
    return str(client.create_run(experiment_id, tags=tags).info.run_id)


def _log_stage(
    client: mlflow.MlflowClient,
    experiment_id: str,
    entry: StageEntry,
    tags: dict[str, str],
) -> str:
    """Log a stage's parameters, numbers and status in its MLflow run; return the run's id."""
    run_id = entry.mlflow_run or client.create_run(experiment_id, tags=tags).info.run_id
    for key, value in tags.items():
        client.set_tag(run_id, key, value)
    numbers = {
        name: float(value)
        for name, value in entry.logged.items()
        if isinstance(value, (int, float))
    }
    mlflow.log_params(entry.params, run_id=run_id)
    mlflow.log_metrics(numbers, run_id=run_id)
    client.set_terminated(run_id, _get_mlflow_status(entry.status))
    return str(run_id)


def _get_mlflow_status(status: str) -> str:
    """Return MLflow's status for the status of a run or stage."""
    return _MLFLOW_STATUS_BY_STATUS.get(status, "FAILED")
