"""The search for a recipe: baselines, then trials over the families; the one door to Optuna.

The same data and seed give the same recipe, whether the search ran through or was killed and went
on: each trial draws from a sampler seeded by its own place in the row, and the trials before it are
read from the storage. Who searches holds a lock on the storage, so a trial found RUNNING belongs to
a process that died (Optuna's journal has no heartbeat); it is failed, and its place tried again.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import LazyModule, np, pd
from mlops_kit.core.results import Table
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.train import families, fitting, folds
from mlops_kit.stats import metrics, thresholds

if TYPE_CHECKING:
    import optuna
else:
    optuna = LazyModule("optuna")

MAX_TRIAL_ROWS = 60_000  # newest rows a trial sees: families rank alike on more, and a search stays under a minute
_STARTUP_TRIALS = 6  # before the sampler (TPE) and the pruner trust what they have seen
_PROGRESS_INTERVAL_SECONDS = 10  # seconds between two plain lines of progress
_STUDY_VERSION = (
    1  # raise it when a space or the way of trying changes: older studies are then left alone
)


class SearchSetup(NamedTuple):
    """What every trial of a search shares."""

    rows: pd.DataFrame
    features: list[str]
    config: ProjectConfig
    seed: int
    folds: list[folds.Fold]

    @property
    def metric(self) -> metrics.Metric:
        """What the search improves."""
        return metrics.METRICS[self.config.search_metric]

    def predict_each_fold(
        self, family: str, params: families.ModelParams
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Labels and scores of the validation rows, fold by fold."""
        target = self.rows[self.config.target].to_numpy()
        for fold in self.folds:
            yield (
                target[fold[1]],
                fitting.fit_and_score_fold(
                    family, params, self.rows, self.features, self.config, self.seed, fold
                ),
            )

    def compute_mean_score(self, family: str, params: families.ModelParams) -> float:
        """The metric's mean over the folds."""
        values = [
            metrics.compute_metric(self.metric.name, y, score)
            for y, score in self.predict_each_fold(family, params)
        ]
        return sum(values) / len(values)

    def build_study_name(self) -> str:
        """The study's name: a fingerprint of rows, features, space and seed."""
        used = [
            *self.features,
            self.config.target,
            *([self.config.time] if self.config.time else []),
        ]
        digest = hashlib.sha256(
            pd.util.hash_pandas_object(self.rows[used], index=False).to_numpy().tobytes()
        )
        told = self.config.model_dump(
            mode="json", include={"task", "train", "split", "label_delay", "seed"}
        )
        for budget in (
            "trials",
            "seconds",
            "refit",
        ):  # more of a budget goes on with the same study
            told["train"].pop(budget)
        digest.update(json.dumps([used, told, self.seed, _STUDY_VERSION], sort_keys=True).encode())
        return f"{self.config.name}-{digest.hexdigest()[:16]}"


def prepare_search(
    frame: pd.DataFrame, features: list[str], config: ProjectConfig, seed: int
) -> SearchSetup:
    """The newest training rows (a random draw where there is no time), and their folds."""
    rows = folds.select_training_rows(frame, config)
    if len(rows) > MAX_TRIAL_ROWS:
        rows = (
            rows.tail(MAX_TRIAL_ROWS)
            if config.time
            else rows.sample(MAX_TRIAL_ROWS, random_state=seed).sort_index()
        )
    return SearchSetup(rows, features, config, seed, folds.build_folds(rows, config))


def search_recipes(
    frame: pd.DataFrame,
    features: list[str],
    config: ProjectConfig,
    seed: int,
    storage_path: str | Path,
    trials: int,
    seconds: float,
    progress: bool = True,
) -> tuple[Table, dict[str, Any]]:
    """Score the baselines, try recipes within the budget, choose the best and its threshold.

    Parameters
    ----------
    frame : DataFrame
        Features and target; rows of part ``train`` are used.
    storage_path : path
        Optuna's journal; a search on the same data and seed goes on where it was stopped.
    trials : int
        How many recipes are tried; this binds.
    seconds : float
        The safety net: no trial is begun after it, but one is always made.

    Returns
    -------
    table of the trials, recipe (dict; only ``seconds`` varies from run to run)

    Raises
    ------
    RunFailed
        If there are too few rows, or a trial fails; the recipe is named.
    """
    began = time.monotonic()
    plan = prepare_search(frame, features, config, seed)
    names = families.select_families(config.task, config.train.families)
    baselines = {
        name: plan.compute_mean_score(*recipe)
        for name, recipe in families.list_baselines(config.task).items()
    }
    with (
        lock_study_storage(Path(storage_path)) as storage,
        _show_search_progress(trials, progress) as tell,
    ):
        study = open_study(plan, storage)
        while len(_list_finished_trials(study)) < trials and (
            not _list_finished_trials(study) or time.monotonic() - began < seconds
        ):
            _run_trial(study, plan, names)
            tell(len(_list_finished_trials(study)), _select_best_trial(study, trials))
        # A study that went further under a larger budget answers as it did at this one.
        done, chosen = _list_finished_trials(study)[:trials], _select_best_trial(study, trials)
    recipe = _build_recipe(plan, chosen)
    recipe |= {
        "trials": len(done),
        "seconds": round(time.monotonic() - began, 1),
        "stopped_by_clock": len(done) < trials,
        "baselines": baselines,
    }
    return _summarize_trials(done, recipe, plan), recipe


@contextmanager
def lock_study_storage(path: Path) -> Iterator[optuna.storages.BaseStorage]:
    """The storage, for this process alone; what a killed one left half written is cut off."""
    from optuna.storages import JournalStorage, journal

    path.parent.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with FileLock(f"{path}.owner"):
        Path(f"{path}.lock").unlink(missing_ok=True)  # Optuna's own lock outlives a killed process
        if path.exists() and not (content := path.read_bytes()).endswith(b"\n"):
            path.write_bytes(content[: content.rfind(b"\n") + 1])
        yield JournalStorage(
            journal.JournalFileBackend(str(path), journal.JournalFileOpenLock(str(path)))
        )


def open_study(plan: SearchSetup, storage: optuna.storages.BaseStorage) -> optuna.Study:
    """The plan's study, new or to go on with; trials of the dead are failed."""
    direction = (
        optuna.study.StudyDirection.MAXIMIZE
        if plan.metric.greater_is_better
        else optuna.study.StudyDirection.MINIMIZE
    )
    pruner = optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS)
    study = optuna.create_study(
        storage=storage,
        study_name=plan.build_study_name(),
        direction=direction,
        load_if_exists=True,
        pruner=pruner,
    )
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def _list_finished_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that ended, complete or pruned, in their order."""
    return sorted(
        study.get_trials(
            deepcopy=False,
            states=(optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED),
        ),
        key=lambda t: t.number,
    )


def _select_best_trial(study: optuna.Study, trials: int) -> optuna.trial.FrozenTrial:
    """The best of the first trials; of two alike the earlier."""
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    complete = [t for t in _list_finished_trials(study)[:trials] if t.state.name == "COMPLETE"]
    return min(complete, key=lambda t: (sign * float(t.value or 0), t.number))


def _run_trial(study: optuna.Study, plan: SearchSetup, names: list[str]) -> None:
    """Ask for a recipe, try it fold by fold, stop it where it lags behind the median, tell."""
    place = len(_list_finished_trials(study))
    study.sampler = optuna.samplers.TPESampler(
        seed=plan.seed + 1000 * (place + 1), n_startup_trials=_STARTUP_TRIALS
    )
    waiting = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,))
    if place < len(names) and not waiting:  # each family's defaults first
        family = names[place]
        study.enqueue_trial(
            {
                "family": family,
                **{
                    f"{family}.{k}": v
                    for k, v in families.MODEL_FAMILIES[family].default_params.items()
                },
            }
        )
    trial = study.ask()
    family = trial.suggest_categorical("family", names)
    params = families.MODEL_FAMILIES[family].suggest_params(trial)
    trial.set_user_attr("params", params)
    total = 0.0
    try:
        for step, (y, score) in enumerate(plan.predict_each_fold(family, params), start=1):
            total += metrics.compute_metric(plan.metric.name, y, score)
            if not math.isfinite(
                total
            ):  # told to Optuna it would be a failed trial, tried again for ever
                raise ValueError(f"{plan.metric.name} is {total} on fold {step}")
            trial.report(total / step, step)
            if step < len(plan.folds) and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                return
    except (ValueError, TypeError, ArithmeticError) as error:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        raise RunFailedError(
            f"the trial of {family!r} with {params} failed: {error}",
            "features the family can take",
            "mend the features, or leave the family out of train.families",
        ) from error
    study.tell(trial, total / len(plan.folds))


def _build_recipe(plan: SearchSetup, trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    """The winner's recipe, with the threshold that costs least on rows its models had not seen."""
    family, params = trial.params["family"], trial.user_attrs["params"]
    threshold, cost = None, plan.config.cost
    if plan.config.task == "binary":
        labels, scores = zip(*plan.predict_each_fold(family, params), strict=True)
        threshold = thresholds.find_best_threshold(
            np.concatenate(labels), np.concatenate(scores), cost.false_alarm, cost.miss
        )
    return {
        "family": family,
        "params": params,
        "threshold": threshold,
        "features": plan.features,
        "metric": plan.metric.name,
        "less_is_better": not plan.metric.greater_is_better,
        "score": float(trial.value or 0),
        "rows": len(plan.rows),
        "folds": len(plan.folds),
    }


def _summarize_trials(
    done: list[optuna.trial.FrozenTrial], recipe: dict[str, Any], plan: SearchSetup
) -> Table:
    """A row a trial: family, score over the folds it saw, the best so far, parameters."""
    rows = []
    for place, trial in enumerate(done, start=1):
        complete = trial.state.name == "COMPLETE"
        value = float(
            trial.value
            if complete and trial.value is not None
            else list(trial.intermediate_values.values())[-1]
        )
        told = ", ".join(f"{k} {format_number(v)}" for k, v in trial.user_attrs["params"].items())
        rows.append(
            (
                place,
                trial.params["family"],
                value,
                value if complete else math.nan,
                "finished" if complete else "stopped early",
                len(trial.intermediate_values),
                told,
            )
        )
    data = pd.DataFrame(
        rows, columns=["trial", "family", "score", "best so far", "state", "folds", "parameters"]
    )
    lead = data["best so far"]
    data["best so far"] = (
        lead.cummax() if plan.metric.greater_is_better else lead.cummin()
    ).ffill()
    title = plan.metric.title
    base = ", ".join(
        f"{name} {format_number(value)}" for name, value in recipe["baselines"].items()
    )
    early = int((data["state"] != "finished").sum())
    family = families.MODEL_FAMILIES[recipe["family"]].title
    sentence = f"{family[0].upper()}{family[1:]} won {len(data)} trials ({early} stopped early): {title} {format_number(recipe['score'])} over {recipe['folds']} folds; baselines: {base}."
    notes = (
        (f"The clock stopped the search after {len(data)} trials: another run may get further.",)
        if recipe["stopped_by_clock"]
        else ()
    )
    return Table("What the search tried", sentence, data, {}, notes)


def compare_families(trials: Table, recipe: dict[str, Any]) -> Table:
    """The best score of each family beside the baselines', the best first."""
    metric = metrics.METRICS[recipe["metric"]]
    grouped = trials.data[trials.data["state"] == "finished"].groupby("family")["score"]
    scores = (grouped.max() if metric.greater_is_better else grouped.min()).to_dict()
    scores |= {f"baseline {name}": value for name, value in recipe["baselines"].items()}
    data = pd.DataFrame(list(scores.items()), columns=["family", metric.title]).sort_values(
        metric.title, ascending=not metric.greater_is_better, kind="stable", ignore_index=True
    )
    lead = min(
        metric.compute_gain(recipe["score"], value) for value in recipe["baselines"].values()
    )
    word = "ahead of" if lead > 0 else "behind"
    return Table(
        "Families and baselines",
        f"{recipe['family']} is {format_number(abs(lead))} {word} the better baseline in {metric.title}.",
        data,
    )


@contextmanager
def _show_search_progress(trials: int, progress: bool) -> Iterator[Any]:
    """A bar in a terminal; elsewhere a plain line now and then."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(file=sys.stderr, force_jupyter=False)
    said = time.monotonic()
    if progress and console.is_terminal:
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("trials", total=trials)
            yield lambda count, lead: bar.update(
                task, completed=count, description=f"trials, best {format_number(lead.value)}"
            )
        return

    def line(count: int, lead: Any) -> None:
        nonlocal said
        if progress and time.monotonic() - said >= _PROGRESS_INTERVAL_SECONDS:
            said = time.monotonic()
            console.print(
                f"{count} of {trials} trials, best {lead.params['family']} {format_number(lead.value)}",
                highlight=False,
            )

    yield line
