"""How a recipe is fitted, scored, and tried in time before anything is kept of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from mlops_kit import sources
from mlops_kit.config import Config, duration_text
from mlops_kit.errors import RunFailed
from mlops_kit.features import offline
from mlops_kit.late import np, pd
from mlops_kit.tracking import answers
from mlops_kit.train import spaces

if TYPE_CHECKING:
    Fold = tuple[np.ndarray, np.ndarray]

PIECES = 10  # quantile strata of a regression's target


def training(frame: pd.DataFrame, config: Config) -> pd.DataFrame:
    """The labelled rows of part ``train``, by moment where there is time."""
    mine = frame[frame[config.target].notna()]
    if offline.PART in mine.columns:
        mine = mine[mine[offline.PART] == "train"]
    return mine.sort_values(config.time, kind="stable") if config.time else mine


def labelled(frame: pd.DataFrame, config: Config) -> pd.DataFrame:
    """Every row whose label is known: what the final model is fitted on."""
    return frame[frame[config.target].notna()]


def folds(frame: pd.DataFrame, config: Config) -> list[Fold]:
    """Positions of training and validation rows, fold by fold.

    In time each fold trains on what was known when its validation begins (rows whose label came
    later are in neither) and validates on the block that follows; the first block only trains.
    Without time the folds are random, stratified by class or by tenths of the target.

    Parameters
    ----------
    frame : DataFrame
        Labelled rows, see ``training``.
    config : Config
        ``split.folds``, ``time``, ``label_delay`` and ``seed`` are read.

    Raises
    ------
    RunFailed
        If no fold has rows (of both classes) on both sides.
    """
    made = in_time(frame, config) if config.time else at_random(frame, config)
    target = frame[config.target].to_numpy()
    fewest = 2 if config.task == "binary" else 1
    if not (
        useful := [
            f
            for f in made
            if all(len(side) >= 2 and len(set(target[side])) >= fewest for side in f)
        ]
    ):
        delay = f" with a label delay of {duration_text(config.label_delay)}" if config.time else ""
        raise RunFailed(
            f"{len(frame):,} training rows in {config.split.folds} folds{delay} leave no fold to try a model on",
            "rows of both classes before and in a fold",
            "more rows, or fewer split.folds in mlops.yaml",
        )
    return useful


def in_time(frame: pd.DataFrame, config: Config) -> list[Fold]:
    """Expanding folds of about equal size; rows of one moment stay together."""
    times = frame[config.time]
    ordered = times.sort_values(kind="stable").reset_index(drop=True)
    count = config.split.folds
    cuts = (
        [ordered.iloc[len(ordered) * i // (count + 1)] for i in range(1, count + 1)]
        if len(ordered)
        else []
    )
    out = []
    for i, start in enumerate(cuts):
        after = (times < cuts[i + 1]) if i + 1 < count else True
        known = times + config.label_delay <= start
        out.append(
            (np.flatnonzero(known & (times < start)), np.flatnonzero((times >= start) & after))
        )
    return out


def at_random(frame: pd.DataFrame, config: Config) -> list[Fold]:
    """Random folds in the same mix of classes, or of the target's tenths."""
    from sklearn.model_selection import KFold, StratifiedKFold

    target, count = frame[config.target], config.split.folds
    if len(frame) < 2 * count:
        return []
    strata = (
        target
        if config.task == "binary"
        else (target.rank(method="first") * PIECES / (len(target) + 1)).astype(int)
    )
    kind = StratifiedKFold if strata.value_counts().min() >= count else KFold
    return list(kind(count, shuffle=True, random_state=config.seed).split(frame, strata))


def fit(
    family: str,
    params: spaces.Params,
    frame: pd.DataFrame,
    features: list[str],
    config: Config,
    seed: int,
) -> Any:
    """A fitted scikit-learn pipeline of a family.

    Parameters
    ----------
    family, params
        From a recipe, or from ``spaces.baselines``.
    frame : DataFrame
        Labelled rows with the features and the target.
    features : list of str
        The columns the model sees, in their order.

    Raises
    ------
    RunFailed
        If there are no rows or no features, or a feature holds an infinity.
    """
    if frame.empty or not features:
        raise RunFailed(
            f"nothing to fit {family!r} on: {len(frame):,} rows, {len(features)} features",
            "labelled rows and at least one feature",
            "check leave_out and known_later in mlops.yaml",
        )
    infinite = [
        c
        for c in features
        if pd.api.types.is_numeric_dtype(frame[c])
        and np.isinf(frame[c].to_numpy(dtype="float64", na_value=np.nan)).any()
    ]
    if infinite:
        raise RunFailed(
            f"the feature {infinite[0]!r} holds an infinity",
            "finite or missing values",
            "mend the view, or name the column under leave_out in mlops.yaml",
        )
    target = (
        frame[config.target].astype("int64" if config.task == "binary" else "float64").to_numpy()
    )
    model = spaces.FAMILIES[family].build(params, config.task, frame, features, seed)
    with threadpool_limits(spaces.threads(len(frame))):
        model.fit(frame[features], target)
    # A forest sums its trees in the order its threads finish, so its last bits vary: one thread answers.
    if "model__n_jobs" in model.get_params():
        model.set_params(model__n_jobs=1)
    return model


def score(model: Any, frame: pd.DataFrame, features: list[str], config: Config) -> np.ndarray:
    """The probability of class 1, or the value; one a row."""
    if frame.empty:
        return np.empty(0)
    with threadpool_limits(spaces.threads(len(frame))):
        return answers(model, frame[features], config)


def tried(
    family: str,
    params: spaces.Params,
    frame: pd.DataFrame,
    features: list[str],
    config: Config,
    seed: int,
    fold: Fold,
) -> np.ndarray:
    """Scores of a fold's validation rows by a model that saw its training rows only."""
    before, after = fold
    return score(
        fit(family, params, frame.iloc[before], features, config, seed),
        frame.iloc[after],
        features,
        config,
    )


def judged_scores(
    models: dict[str, Any], frame: pd.DataFrame, features: list[str], config: Config
) -> pd.DataFrame:
    """The test rows with the score of each model: what the review judges.

    Parameters
    ----------
    models : dict of str to pipeline
        Named as the columns are to be: ``score``, ``refitted``, ``baseline_constant`` …
    """
    test = frame[frame[offline.PART] == "test"]
    keys = [
        c for c in [*(config.id or [sources.ROW]), config.time, config.target] if c in test.columns
    ]
    return (
        test[keys]
        .assign(**{name: score(model, test, features, config) for name, model in models.items()})
        .reset_index(drop=True)
    )
