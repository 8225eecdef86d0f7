"""The one door to MLflow: runs, models, versions, aliases, and who promoted what.

A model is saved in skops format and never as pickle; which types it may hold is decided here and
not by the model (MLflow writes its allow-list into the model and believes it when it loads). Its
canonical hash leaves out object ids and clock times, so that two equal fits have one hash.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import logging
import os
import sqlite3
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from mlops_kit import decisions, sources, store
from mlops_kit.config import Config, Project
from mlops_kit.errors import KitError, RunFailed
from mlops_kit.late import Late, np, pd
from mlops_kit.results import plain

if TYPE_CHECKING:
    import mlflow
    import skops.io as skops

    from mlops_kit.stage import Stage
else:
    mlflow, skops = Late("mlflow"), Late("skops.io")

# Types that a model of ours may hold beside those that skops itself vouches for (scikit-learn's and NumPy's
# public ones). A partial is harmless by itself: skops lists the function inside it as a type of its own.
ALLOWED = {
    "collections.OrderedDict",
    "functools.partial",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "numpy.dtype",
    "pandas._libs.missing.NAType",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
}
ALLOWED_PREFIX = "skrub."
FACTS = {
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
TERMINATED = {
    "succeeded": "FINISHED",
    "killed": "KILLED",
    "interrupted": "KILLED",
}  # the rest of the statuses are MLflow's FAILED
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}  # what MLflow reads when it is imported
REQUIREMENTS = ("scikit-learn", "skrub", "lightgbm", "numpy", "pandas", "skops")


def store_file(project: Project) -> Path | None:
    """The SQLite file of a local MLflow store; None for a server."""
    uri = project.config.tracking
    return project.path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


@contextmanager
def connected(project: Project) -> Iterator[mlflow.MlflowClient]:
    """MLflow on the project's store, made if it is new, mended if the project's folder has moved.

    One process at a time makes the store (its migration does not bear two); the others wait.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    file = store_file(project)
    uri = f"sqlite:///{file}" if file else project.config.tracking
    mlflow.set_tracking_uri(uri)
    for name in (
        "mlflow",
        "alembic",
    ):  # a fresh store tells of each of its migrations; MLflow's import sets what it tells
        logging.getLogger(name).setLevel(logging.WARNING)
    if file is None:
        yield mlflow.MlflowClient(uri)
        return
    with FileLock(f"{file}.lock"):  # makes the folder too
        moved(file)
        mlflow.set_registry_uri(uri)
        client = mlflow.MlflowClient(uri)
        experiment(project, client)
        (file.parent / "root").write_text(str(file.parent), encoding="utf-8")
    yield client


def experiment(project: Project, client: mlflow.MlflowClient) -> str:
    """The id of the project's experiment, made if it is new."""
    found = client.get_experiment_by_name(project.config.name)
    if found is not None:
        return str(found.experiment_id)
    file = store_file(project)
    return str(
        client.create_experiment(
            project.config.name,
            artifact_location=(file.parent / "artifacts").as_uri() if file else None,
        )
    )


def moved(file: Path) -> None:
    """Point the store's absolute artifact paths at where the project now stands.

    MLflow records absolute paths; the folder they were written for is kept in ``root`` beside the
    store, and one transaction replaces it.
    """
    marker = file.parent / "root"
    old = marker.read_text(encoding="utf-8") if marker.exists() else str(file.parent)
    if old == str(file.parent) or not file.exists():
        return
    columns = [
        ("experiments", "artifact_location"),
        ("runs", "artifact_uri"),
        ("logged_models", "artifact_location"),
        ("model_versions", "source"),
        ("model_versions", "storage_location"),
    ]
    with closing(sqlite3.connect(file)) as connection, connection:
        for table, name in columns:
            connection.execute(
                f"UPDATE {table} SET {name} = replace({name}, ?, ?) WHERE {name} LIKE ?",
                (old, str(file.parent), f"%{old}%"),
            )  # noqa: S608 - names are ours


def model_hash(file: Path) -> str:
    """The hash of a skops file's content: object ids renumbered, clock times left out."""
    with zipfile.ZipFile(file) as archive:
        schema = json.loads(archive.read("schema.json"))
        ids: dict[str, int] = {}
        digest = hashlib.sha256()

        def tidy(node: Any) -> Any:
            if isinstance(node, list):
                return [tidy(v) for v in node]
            if not isinstance(node, dict):
                return node
            if isinstance(name := node.get("file"), str):
                digest.update(archive.read(name))
            return {
                k: ids.setdefault(str(v), len(ids)) if k == "__id__" else tidy(v)
                for k, v in node.items()
                if k != "file" or not isinstance(v, str)
            }

        digest.update(json.dumps(tidy(schema), sort_keys=True).encode())
    return digest.hexdigest()


def trusted_types(file: Path) -> list[str]:
    """The types in a skops file that skops itself does not vouch for, if all are on our list.

    Raises
    ------
    RunFailed
        Naming the first type that is not.
    """
    asked = skops.get_untrusted_types(file=file)
    for name in asked:
        if name not in ALLOWED and not name.startswith(ALLOWED_PREFIX):
            raise RunFailed(
                f"the model holds the type {name!r}, which is not on the allow-list",
                "scikit-learn's, skrub's and LightGBM's own types",
                "build the model from these, or add a type that you have read to tracking.ALLOWED",
            )
    return list(asked)


def signature(model: Any, example: pd.DataFrame, binary: bool) -> Any:
    """The model's signature; no column is required, for the pipeline knows what to do with a missing value."""
    found = mlflow.models.infer_signature(
        example, model.predict_proba(example) if binary else model.predict(example)
    )
    return mlflow.models.ModelSignature(
        inputs=mlflow.types.Schema(
            [mlflow.types.ColSpec(c.type, c.name, required=False) for c in found.inputs]
        ),
        outputs=found.outputs,
    )


def save_model(
    client: mlflow.MlflowClient,
    project: Project,
    name: str,
    model: Any,
    example: pd.DataFrame,
    facts: dict[str, Any],
) -> dict[str, str]:
    """Log a fitted pipeline into the active run, in skops format with signature, example and given requirements.

    Returns
    -------
    dict
        ``uri`` (``models:/m-…``), ``model_hash`` (canonical), ``sha256`` (of the file).
    """
    binary = project.config.task == "binary"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.skops"
        skops.dump(model, file)
        trusted, content = trusted_types(file), model_hash(file)
    info = mlflow.sklearn.log_model(
        model,
        name=name,
        serialization_format="skops",
        skops_trusted_types=trusted,
        pyfunc_predict_fn="predict_proba" if binary else "predict",
        signature=signature(model, example, binary),
        input_example=example.head(3),
        pip_requirements=[f"{r}=={installed(r)}" for r in (*REQUIREMENTS, "mlflow")],
        metadata={**plain(facts), "model_hash": content},
    )
    return {
        "uri": info.model_uri,
        "model_hash": content,
        "sha256": store.sha256(model_file(client, info.model_uri)),
    }


def notable(
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


def log_training(
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
        connected(project) as client,
        mlflow.start_run(experiment_id=experiment(project, client), tags=tags) as active,
    ):
        mlflow.log_params(
            {"family": recipe["family"], **recipe["params"], "threshold": recipe["threshold"]}
        )
        mlflow.log_metrics({recipe["metric"]: recipe["score"], "trials": recipe["trials"]})
        mlflow.log_table(trials, "trials.json")
        for name, params, score in notable(trials, recipe):
            with mlflow.start_run(
                experiment_id=experiment(project, client), run_name=name, nested=True
            ):
                mlflow.log_params(params)
                mlflow.log_metric(recipe["metric"], score)
        saved = {
            name: save_model(client, project, name, model, example, facts)
            for name, model in models.items()
        }
    return {"run": active.info.run_id, **saved}


def model_file(client: mlflow.MlflowClient, uri: str) -> Path:
    """The skops file behind a model's URI, on this machine."""
    found = sorted(
        Path(
            mlflow.artifacts.download_artifacts(artifact_uri=uri, tracking_uri=client.tracking_uri)
        ).glob("*.skops")
    )
    if not found:
        raise RunFailed(
            f"the model {uri} has no skops file",
            "a model saved by mlops-kit",
            "mlops run --from train",
        )
    return found[0]


def load_model(project: Project, record: dict[str, str]) -> Any:
    """Load a model after its bytes and its types were checked against what was recorded.

    Raises
    ------
    RunFailed
        If the file is not the one that was recorded, or holds a type that is not allowed.
    """
    with connected(project) as client:
        file = model_file(client, record["uri"])
    found = store.sha256(file)
    if found != record["sha256"]:
        raise RunFailed(
            f"the model's file has changed: hash {found[:12]}",
            record["sha256"][:12],
            "mlops run --from train --force",
        )
    content = model_hash(
        file
    )  # a registry's record can be pointed at another file, with that file's own hash
    if content != record["model_hash"]:
        raise RunFailed(
            f"the file holds another model: {content[:12]}",
            record["model_hash"][:12],
            "mlops rollback --reason …, or mlops run",
        )
    return skops.load(file, trusted=trusted_types(file))


def answers(model: Any, frame: pd.DataFrame, config: Config) -> np.ndarray:
    """A model's answers for feature rows: the probability of class 1, or the value."""
    return np.asarray(
        model.predict_proba(frame)[:, -1] if config.task == "binary" else model.predict(frame),
        dtype=float,
    )


def champion(project: Project) -> dict[str, Any] | None:
    """The version that serves, by the database of decisions: number, hashes, facts. None if there is none.

    MLflow's alias is not asked: anyone can move it.

    Raises
    ------
    RunFailed
        If the version is not the one that was approved any more.
    """
    present = decisions.current(project)
    if present is None:
        return None
    found = facts_of(project, present.version)
    if (found["model_hash"], found["evidence_hash"]) != (present.model_hash, present.evidence_hash):
        raise RunFailed(
            f"version {present.version} has changed since it was approved: hash {found['model_hash'][:12]}",
            present.model_hash[:12],
            "mlops rollback --reason …, or mlops run",
        )
    return found


def needed(project: Project) -> dict[str, Any]:
    """The version that serves, as of ``champion``.

    Raises
    ------
    KitError
        If there is none.
    """
    found = champion(project)
    if found is None:
        raise KitError(
            f"{project.config.name} has no champion yet",
            "a run whose review passed and was approved",
            "mlops run",
        )
    return found


def serving(project: Project) -> tuple[dict[str, Any], Any]:
    """The champion, ready to answer: its facts with ``features`` and ``threshold`` as values, and its model; an error if there is none."""
    found = needed(project)
    return {
        **found,
        "features": json.loads(found["features"]),
        "threshold": json.loads(found["threshold"]),
    }, load_model(project, found)


def facts_of(project: Project, version: str) -> dict[str, Any]:
    """What the review recorded of a version.

    Raises
    ------
    RunFailed
        If there is no such version, or no review registered it.
    """
    try:
        with connected(project) as client:
            tags = client.get_model_version(project.config.name, version).tags
    except mlflow.exceptions.MlflowException as error:
        raise RunFailed(
            f"the registry has no version {version!r} of {project.config.name}",
            "a version that a review registered",
            "mlops run",
        ) from error
    absent = sorted(FACTS - set(tags))
    if absent:
        raise RunFailed(
            f"version {version} has no record of {', '.join(absent)}",
            "a version that a review registered",
            "mlops run",
        )
    return {**tags, "version": version}


def follow(project: Project) -> None:
    """Set MLflow's aliases to what the database of decisions says."""
    present = decisions.current(project)
    if present is not None:
        with connected(project) as client:
            for alias, version in (("champion", present.version), ("previous", present.before)):
                if version:
                    client.set_registered_model_alias(project.config.name, alias, version)


def alias_note(project: Project) -> str:
    """Where MLflow's ``champion`` points if not to the version that serves, in words; empty if all is well."""
    present, stands = decisions.current(project), None
    with (
        connected(project) as client,
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
    said = decisions.opinion(project, known)
    word = (
        "was approved but not promoted" if said and said.word == "approved" else "nobody approved"
    )
    return f"points to version {stands.version}, which {word}; {f'version {present.version}' if present else 'none'} serves"


def opponent(
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
    model, how = unseen(stage, present, rows)
    return None if model is None else load_model(stage.project, model), columns, f"{name} {how}"


def unseen(
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
        else judged["rows"] == rows_hash(stage, rows)
    ):
        return (
            judged,
            "answers by the model it was judged by, since the one that serves has seen these rows."
            if refitted
            else "has seen none of these rows.",
        )
    return None, "has learnt from some of these rows, so the two cannot be compared on them."


def rows_hash(stage: Stage, rows: pd.DataFrame) -> str:
    """Which rows these are, whatever their order."""
    keys = sources.keys(stage.project)
    return store.table_hash(rows[keys].sort_values(keys, ignore_index=True))


def register(stage: Stage, verdicts: Any) -> dict[str, Any]:
    """Register the run's model as ``challenger``; a draft finds the version its run registered.

    Returns
    -------
    dict
        ``version`` (a number as text, or None), ``model_hash``, ``outcome`` (a sentence).
    """
    record, rows, time = stage.read("model"), stage.read("judged_scores"), stage.config.time
    passed = not any(v.blocks for v in verdicts)
    judged = {
        **record["judged"],
        "from": str(rows[time].min()) if time else "",
        "rows": rows_hash(stage, rows),
    }
    tags = {
        "uri": record["uri"],
        "sha256": record["sha256"],
        "model_hash": record["model_hash"],
        "features": json.dumps(record["features"]),
        "evidence_hash": store.text_hash(
            {n: a["content"] for n, a in stage.record["artifacts"].items() if a["content"]}
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
                plain({"check": v.check, "outcome": v.outcome, "sentence": v.sentence})
                for v in verdicts
            ]
        ),
    }
    with connected(stage.project) as client:
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
        if not stage.draft:
            if found is None:
                found = new_version(client, stage.project, record, tags)
            elif found not in {p.version for p in decisions.history(stage.project)}:
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


def new_version(
    client: mlflow.MlflowClient, project: Project, record: dict[str, Any], tags: dict[str, str]
) -> str:
    """Make a version of the project's registered model."""
    try:
        client.create_registered_model(project.config.name)
    except mlflow.exceptions.MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return str(client.create_model_version(project.config.name, record["uri"], tags=tags).version)


def promote(project: Project, version: str, by: str, reason: str) -> dict[str, Any]:
    """Let an approved version serve: a row in the database of decisions, which MLflow's alias then follows.

    Raises
    ------
    RunFailed
        If its review did not pass, it was made from a sample or changed since, nobody approved it, or
        another promotion came in between.
    """
    before = decisions.current(project)
    facts = facts_of(project, version)
    if before is None or (before.version, before.model_hash) != (version, facts["model_hash"]):
        before = decisions.promote(project, facts, before, by, reason)
    follow(project)
    return {
        "version": version,
        "before": before.before,
        "by": before.by,
        "reason": before.why,
        "at": before.at,
    }


def rollback(project: Project, by: str, reason: str) -> dict[str, Any]:
    """Let the version serve that served before.

    Raises
    ------
    KitError
        If there is none, or the person may not.
    """
    present = decisions.current(project)
    if present is None or present.before is None:
        raise KitError(
            "there is no earlier version to go back to", "two promotions or more", "mlops run"
        )
    decisions.may(project.config.people, by, approves=False)
    if not reason.strip():
        raise KitError(
            "going back needs a reason", "a sentence that others can read later", '--reason "why"'
        )
    return promote(project, present.before, by, f"rollback: {reason}")


def end_left(project: Project, run: str) -> None:
    """End as killed what a run that was killed has left running in MLflow."""
    with connected(project) as client:
        for left in client.search_runs(
            [experiment(project, client)], f"attributes.status = 'RUNNING' and tags.run = '{run}'"
        ):
            client.set_terminated(left.info.run_id, "KILLED")


def log_run(project: Project, manifest: dict[str, Any]) -> dict[str, str]:
    """Mirror a finished run in MLflow: one run, a child a stage, their numbers and parameters.

    A stage that logged a run of its own (training) keeps it: it becomes the stage's child.
    """
    ids = {}
    with connected(project) as client:
        where = experiment(project, client)
        tags = {
            "mlflow.runName": manifest["run"],
            "run": manifest["run"],
            "status": manifest["status"],
            "sample": str(manifest["sample"]),
            "git": str(manifest["git"].get("commit")),
            "mlflow.note.content": manifest.get("note") or "",
        }
        known = manifest["mlflow"]  # of a run that waited for an approval and went on
        parent = known.get("run") or client.create_run(where, tags=tags).info.run_id
        client.set_tag(parent, "status", manifest["status"])
        for name, entry in (
            (n, e)
            for n, e in manifest["stages"].items()
            if n not in known and e["status"] not in {"skipped", "not run"}
        ):
            told = {
                "mlflow.parentRunId": parent,
                "mlflow.runName": name,
                "run": manifest["run"],
                "status": entry["status"],
            }
            ids[name] = child = (
                entry.get("mlflow_run") or client.create_run(where, tags=told).info.run_id
            )
            for key, value in told.items():
                client.set_tag(child, key, value)
            mlflow.log_params(entry.get("params", {}), run_id=child)
            mlflow.log_metrics(
                {
                    k: float(v)
                    for k, v in entry.get("logged", {}).items()
                    if isinstance(v, (int, float))
                },
                run_id=child,
            )
            client.set_terminated(child, TERMINATED.get(entry["status"], "FAILED"))
        client.set_terminated(parent, TERMINATED.get(manifest["status"], "FAILED"))
    follow(project)
    return {**known, "run": parent, **ids}
