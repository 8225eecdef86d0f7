"""The search for a recipe: baselines, then trials over the model families. Only this uses Optuna.

The same data and seed give the same recipe, whether the search ran through or was killed and
resumed: each trial draws from a sampler seeded by the trial's position, and earlier trials are read
from the storage. A search holds a lock on the storage, so a trial found RUNNING belongs to a
process that died (Optuna's journal has no heartbeat); it is failed, and its position tried again.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.extras import import_from_extra
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import LazyModule, np, pd
from mlops_kit.core.results import Table
from mlops_kit.data.row_weights import get_row_weights
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.config.training_rows import ALL_ROWS, RowSelection, TrainingRows
from mlops_kit.registry.recipe import Recipe
from mlops_kit.stages.train import families, fitting
from mlops_kit.stages.train.folds import build_folds, select_training_rows
from mlops_kit.stages.train.row_selection import (
    RowAlternative,
    choose_training_rows,
    to_window_length,
)
from mlops_kit.stages.train.search_progress import ProgressCallback, show_search_progress
from mlops_kit.stages.train.search_summary import summarize_trials
from mlops_kit.stats.metrics import METRICS, Metric, compute_metric
from mlops_kit.stats.thresholds import find_best_threshold

if TYPE_CHECKING:
    import optuna

    from mlops_kit.data.splitters import Fold
else:
    optuna = LazyModule("optuna", extra="train")

# Newest rows that a trial sees: families rank alike on more, and a search stays under a minute.
MAX_TRIAL_ROWS = 60_000
_STARTUP_TRIALS = 6  # random trials before the sampler (TPE) and the pruner are used
_SEED_STRIDE = 1000  # between the sampler seeds of two trials
# They do not change the outcome of a trial.
_SETTINGS_OUTSIDE_A_TRIAL = (
    "trials",
    "max_seconds",
    "refit",
    "reference_refits",
    "rows",
    "change_point",
)
# Increased when a search space or the way of trying changes: older studies are then not resumed.
_STUDY_VERSION = 1


class SearchBudget(NamedTuple):
    """How long a search may take.

    Attributes
    ----------
    trials : int
        How many recipes are tried; this is the budget that a search normally exhausts.
    seconds : float
        After this time no trial is started, and the present one ends after its fold; one is always
        completed. If other training rows are chosen, the search on these has the time once more.
    """

    trials: int
    seconds: float


class ScoredFold(NamedTuple):
    """Labels and scores of a fold's validation rows; ``weights`` is None if all count the same."""

    labels: np.ndarray
    scores: np.ndarray
    weights: np.ndarray | None = None

    def compute_metric(self, name: str) -> float:
        """Compute a metric on the fold."""
        return compute_metric(name, self.labels, self.scores, weights=self.weights)


@dataclass(frozen=True)
class SearchSetup:
    """What every trial of a search shares."""

    rows: pd.DataFrame
    features: list[str]
    config: ProjectConfig
    folds: list[Fold]
    training_rows: TrainingRows = ALL_ROWS  # of each fold

    @property
    def metric(self) -> Metric:
        """The metric that the search improves."""
        return METRICS[self.config.search_metric]

    def predict_each_fold(
        self,
        family: str,
        params: families.ModelParams,
    ) -> Iterator[ScoredFold]:
        """Yield labels, scores and weights of the validation rows, fold by fold."""
        target = self.rows[self.config.target].to_numpy()
        weights = get_row_weights(self.rows, self.config)
        for fold in self.folds:
            scores = fitting.fit_and_score_fold(
                family,
                params,
                self.rows,
                self.features,
                self.config,
                fold,
                self.training_rows,
            )
            fold_weights = None if weights is None else weights[fold[1]]
            yield ScoredFold(target[fold[1]], scores, fold_weights)

    def compute_mean_score(
        self,
        family: str,
        params: families.ModelParams,
    ) -> float:
        """Compute the metric's mean over the folds."""
        values = []
        for fold in self.predict_each_fold(family, params):
            values.append(fold.compute_metric(self.metric.name))
        return sum(values) / len(values)

    def build_study_name(self) -> str:
        """Build the study's name: a fingerprint of rows, features, search space and seed."""
        used_columns = [*self.features, self.config.target]
        for column in (self.config.time, self.config.validation.group, self.config.weight):
            if column:
                used_columns.append(column)
        row_hashes = pd.util.hash_pandas_object(self.rows[used_columns], index=False)
        digest = hashlib.sha256(row_hashes.to_numpy().tobytes())
        settings = self.config.model_dump(
            mode="json",
            include={"task", "train", "validation", "label_delay", "seed"},
        )
        # With a larger budget the same study is continued.
        for setting in _SETTINGS_OUTSIDE_A_TRIAL:
            settings["train"].pop(setting)
        search_space = families.describe_search_space(self.config.task, self.config.train.families)
        identity = [used_columns, settings, self.config.seed, _STUDY_VERSION, search_space]
        if self.training_rows != ALL_ROWS:
            identity.append(str(self.training_rows))
        digest.update(json.dumps(identity, sort_keys=True).encode())
        return f"{self.config.name}-{digest.hexdigest()[:16]}"


def prepare_search(
    frame: pd.DataFrame,
    features: list[str],
    config: ProjectConfig,
    training_rows: TrainingRows | None = None,
) -> SearchSetup:
    """Select the newest training rows (a random sample where there is no time) and their folds.

    Parameters
    ----------
    training_rows : TrainingRows or None
        Which of a fold's training rows count; None: as ``train.rows`` says, all of them for auto.
    """
    if training_rows is None:
        is_automatic = config.train.rows.selection == RowSelection.AUTO
        training_rows = ALL_ROWS if is_automatic else config.train.rows
    rows = select_training_rows(frame, config)
    if len(rows) > MAX_TRIAL_ROWS:
        if config.time:
            rows = rows.tail(MAX_TRIAL_ROWS)
        else:
            rows = rows.sample(MAX_TRIAL_ROWS, random_state=config.seed).sort_index()
    fold_rows = to_window_length(training_rows, rows, config)
    folds = build_folds(rows, config, fold_rows)
    return SearchSetup(rows, features, config, folds, fold_rows)


@fitting.cache_text_encodings()
def search_recipes(
    frame: pd.DataFrame,
    features: list[str],
    config: ProjectConfig,
    storage_path: str | Path,
    budget: SearchBudget | None = None,
    progress: bool = True,
) -> tuple[Table, Recipe]:
    """Score the baselines, try recipes within the budget, choose the best and its threshold.

    Parameters
    ----------
    frame : DataFrame
        Features and target; rows of part ``train`` are used.
    features : list of str
        The columns that a model sees.
    config : ProjectConfig
        Its seed makes the search reproducible.
    storage_path : path
        Optuna's journal; a search on the same data and seed is resumed from it.
    budget : SearchBudget, optional
        By default ``train.trials`` and ``train.max_seconds`` of the config.
    progress : bool
        Whether to report progress on stderr.

    Returns
    -------
    trials : Table
        One row per trial.
    recipe : Recipe
        The best recipe; only its ``seconds`` vary from run to run.

    Raises
    ------
    RunFailedError
        If there are too few rows, or a trial fails.
    """
    frame = to_pandas(frame)
    started_at = time.monotonic()
    budget = budget or SearchBudget(config.train.trials, config.train.max_seconds)
    setup = prepare_search(frame, features, config)
    with (
        lock_study_storage(Path(storage_path)) as storage,
        show_search_progress(budget.trials, progress) as report_progress,
    ):
        trials, best_trial = _run_study(setup, storage, budget, report_progress)
        rows, alternatives = _choose_training_rows(setup, best_trial)
        if alternatives and rows != ALL_ROWS:  # other rows may call for another recipe
            setup = prepare_search(frame, features, config, rows)
            trials, best_trial = _run_study(setup, storage, budget, report_progress)
    baselines = {}
    for name, (family, params) in families.list_baselines(config.task).items():
        baselines[name] = setup.compute_mean_score(family, params)
    recipe = Recipe(
        family=best_trial.params["family"],
        params=best_trial.user_attrs["params"],
        threshold=_choose_threshold(setup, best_trial),
        features=setup.features,
        metric=setup.metric.name,
        less_is_better=not setup.metric.greater_is_better,
        score=float(best_trial.value or 0),
        rows=len(setup.rows),
        folds=len(setup.folds),
        trials=len(trials),
        seconds=round(time.monotonic() - started_at, 1),
        stopped_by_clock=len(trials) < budget.trials,
        baselines=baselines,
        training_rows=str(rows),
        row_alternatives=[asdict(alternative) for alternative in alternatives],
    )
    return summarize_trials(trials, recipe, config), recipe


def _run_study(
    setup: SearchSetup,
    storage: optuna.storages.BaseStorage,
    budget: SearchBudget,
    report_progress: ProgressCallback,
) -> tuple[list[optuna.trial.FrozenTrial], optuna.trial.FrozenTrial]:
    """Try recipes within the budget; return the trials and the best of them."""
    started_at = time.monotonic()
    family_names = families.select_families(setup.config.task, setup.config.train.families)
    study = open_study(setup, storage)
    while len(_list_ended_trials(study)) < budget.trials:
        if _list_ended_trials(study) and time.monotonic() - started_at >= budget.seconds:
            break
        if not _run_trial(study, setup, family_names, started_at + budget.seconds):
            break
        report_progress(len(_list_ended_trials(study)), _select_best_trial(study, budget.trials))
    # A study that was continued under a larger budget gives the same result at this one.
    trials = _list_ended_trials(study)[: budget.trials]
    return trials, _select_best_trial(study, budget.trials)


def _choose_training_rows(
    setup: SearchSetup, trial: optuna.trial.FrozenTrial
) -> tuple[TrainingRows, list[RowAlternative]]:
    """Choose the rows to train on with the best recipe, unless the project states them."""
    stated = setup.config.train.rows
    if stated.selection != RowSelection.AUTO:
        return stated, []

    def score_fold(fold: Fold, rows: TrainingRows) -> np.ndarray:
        return fitting.fit_and_score_fold(
            trial.params["family"],
            trial.user_attrs["params"],
            setup.rows,
            setup.features,
            setup.config,
            fold,
            rows,
        )

    family = families.MODEL_FAMILIES[trial.params["family"]]
    unfitted = family.build(
        trial.user_attrs["params"],
        setup.config.task,
        setup.rows,
        setup.features,
        setup.config.seed,
    )
    return choose_training_rows(
        setup.rows,
        setup.config,
        score_fold,
        takes_weights=fitting.takes_row_weights(unfitted),
    )


@contextmanager
def lock_study_storage(path: Path) -> Iterator[optuna.storages.BaseStorage]:
    """Open the storage for this process alone; a line that a killed process left is cut off."""
    with import_from_extra("train"):
        from optuna.storages import JournalStorage, journal

    path.parent.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with FileLock(f"{path}.owner"):
        # Optuna's own lock file remains after a process was killed.
        Path(f"{path}.lock").unlink(missing_ok=True)
        if path.exists():
            content = path.read_bytes()
            if not content.endswith(b"\n"):
                path.write_bytes(content[: content.rfind(b"\n") + 1])
        lock = journal.JournalFileOpenLock(str(path))
        yield JournalStorage(journal.JournalFileBackend(str(path), lock))


def open_study(setup: SearchSetup, storage: optuna.storages.BaseStorage) -> optuna.Study:
    """Create or load the study of a search; trials of processes that died are failed."""
    if setup.metric.greater_is_better:
        direction = optuna.study.StudyDirection.MAXIMIZE
    else:
        direction = optuna.study.StudyDirection.MINIMIZE
    study = optuna.create_study(
        storage=storage,
        study_name=setup.build_study_name(),
        direction=direction,
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS),
    )
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def _list_ended_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """List the trials that ended, complete or pruned, in their order."""
    ended_states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    trials = study.get_trials(deepcopy=False, states=ended_states)
    return sorted(trials, key=lambda trial: trial.number)


def _is_complete(trial: optuna.trial.FrozenTrial) -> bool:
    return trial.state.name == "COMPLETE"


def _select_best_trial(study: optuna.Study, trials: int) -> optuna.trial.FrozenTrial:
    """Select the best of the first trials; of equally good ones the earlier."""
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    complete = [trial for trial in _list_ended_trials(study)[:trials] if _is_complete(trial)]
    return min(complete, key=lambda trial: (sign * float(trial.value or 0), trial.number))


def _run_trial(
    study: optuna.Study,
    setup: SearchSetup,
    family_names: list[str],
    deadline: float,
) -> bool:
    """Ask for a recipe, try it fold by fold, and prune it where it is behind the median.

    Returns
    -------
    bool
        False if the time was up between two folds: the trial is then failed, and its position
        tried again when the search is continued.
    """
    position = len(_list_ended_trials(study))
    study.sampler = optuna.samplers.TPESampler(
        seed=setup.config.seed + _SEED_STRIDE * (position + 1),
        n_startup_trials=_STARTUP_TRIALS,
    )
    _enqueue_defaults(study, family_names, position)
    trial = study.ask()
    family = trial.suggest_categorical("family", family_names)
    params = families.MODEL_FAMILIES[family].suggest_params(trial)
    trial.set_user_attr("params", params)
    try:
        mean_score = _score_trial(trial, setup, family, params, deadline)
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return True
    except TimeoutError:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return False
    except (ValueError, TypeError, ArithmeticError) as error:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        raise RunFailedError(
            f"the trial of {family!r} with {params} failed: {error}",
            "features that the family accepts",
            "fix the features, or leave the family out of train.families",
        ) from error
    study.tell(trial, mean_score)
    return True


def _enqueue_defaults(
    study: optuna.Study,
    family_names: list[str],
    position: int,
) -> None:
    """Let the first trials be the default parameters of each family."""
    waiting = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,))
    if waiting or position >= len(family_names):
        return
    family = families.MODEL_FAMILIES[family_names[position]]
    params: dict[str, Any] = {"family": family.name}
    for name, value in family.default_params.items():
        params[f"{family.name}.{name}"] = value
    study.enqueue_trial(params)


def _score_trial(
    trial: optuna.Trial,
    setup: SearchSetup,
    family: str,
    params: families.ModelParams,
    deadline: float,
) -> float:
    """Compute a trial's mean score over the folds.

    Raises
    ------
    TimeoutError
        If the time (of ``time.monotonic``) is up, unless it is the first trial.
    optuna.TrialPruned
        If the trial is behind the median of the others after some folds.
    ValueError
        If a score is not finite: reported to Optuna it would be a failed trial, tried for ever.
    """
    total = 0.0
    folds = setup.predict_each_fold(family, params)
    for step, fold in enumerate(folds, start=1):
        total += fold.compute_metric(setup.metric.name)
        if not math.isfinite(total):
            raise ValueError(f"{setup.metric.name} is {total} on fold {step}")
        trial.report(total / step, step)
        if step == len(setup.folds):
            break
        if trial.should_prune():
            raise optuna.TrialPruned
        if time.monotonic() >= deadline and _list_ended_trials(trial.study):
            raise TimeoutError
    return total / len(setup.folds)


def _choose_threshold(setup: SearchSetup, trial: optuna.trial.FrozenTrial) -> float | None:
    """Choose the threshold of least cost on the validation rows; None for a regression."""
    if setup.config.task != "binary":
        return None
    folds = list(setup.predict_each_fold(trial.params["family"], trial.user_attrs["params"]))
    weights = [fold.weights for fold in folds if fold.weights is not None]
    cost = setup.config.cost
    return find_best_threshold(
        np.concatenate([fold.labels for fold in folds]),
        np.concatenate([fold.scores for fold in folds]),
        cost.false_alarm,
        cost.miss,
        np.concatenate(weights) if weights else None,
    )
