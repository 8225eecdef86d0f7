"""``mlops replay``: retraining policies on the project's own history, and a recommendation."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.extras import require_extra
from mlops_kit.core.progress import ProgressReporter
from mlops_kit.db import approvals
from mlops_kit.project.loader import Project
from mlops_kit.project.run_folder import list_artifacts, read_run_artifact
from mlops_kit.registry import versions
from mlops_kit.registry.recipe import Recipe
from mlops_kit.registry.versions import ModelVersion
from mlops_kit.watch.policy_replay import report_tables, workers
from mlops_kit.watch.policy_replay.alarms import AlarmCounts, count_alarms
from mlops_kit.watch.policy_replay.costs import PolicyLoss, choose_cost_ratios, choose_policy
from mlops_kit.watch.policy_replay.fits import FitRequest, ReplayFit
from mlops_kit.watch.policy_replay.history import load_history
from mlops_kit.watch.policy_replay.losses import WindowLosses
from mlops_kit.watch.policy_replay.oracle import find_best_periods
from mlops_kit.watch.policy_replay.outcome import ReplayedPolicy, ReplayOutcome
from mlops_kit.watch.policy_replay.policies import (
    ORACLE_POLICY,
    ReplayPolicy,
    load_policies,
)
from mlops_kit.watch.policy_replay.result import PolicyComparison
from mlops_kit.watch.policy_replay.simulation import PolicyTimeline
from mlops_kit.watch.policy_replay.store import ReplayStore

_STORES_FOLDER = ".mlops/replay"
_KEPT_STORES = 3
_SIMPLIFICATIONS = (
    "The recipe is refitted in this process, without notebooks, on the rows that train.rows "
    "chooses; family, parameters, features and threshold are not searched again.",
    "A retraining makes a version at once, and it is promoted if it passes the check against the "
    "champion; the other checks of the review are not repeated. No earlier version is reinstated, "
    "faults of the rows and of the labels are not looked for, and drift is not compared with the "
    "same season of earlier years.",
)


def replay_policies(
    project: Project,
    start: datetime,
    end: datetime,
    names: Sequence[str],
    report: ProgressReporter,
    processes: int | None = None,
) -> PolicyComparison:
    """Replay the project's history under several policies.

    Parameters
    ----------
    start, end : datetime
        The period; a model is fitted as of its start.
    names : sequence of str
        See ``policies.load_policies``.
    processes : int or None
        How many processes work; None: one per core, or one for a small table.

    Raises
    ------
    KitError
        If the table has no time column, there is no champion, the period is too short, or a policy
        is not valid.
    RunFailedError
        If the recipe is gone, or cannot be fitted as of the start.
    """
    require_extra("train")
    _check_period(project, start, end)
    policies = load_policies(project, names)
    version = _find_version(project, start)
    recipe = _load_recipe(project, version)
    period = (start, end)
    outcome = simulate(project, recipe, version.classes, period, policies, report, processes)
    notes = [*_describe_recipe(version, recipe, start), *_SIMPLIFICATIONS]
    return report_tables.build_comparison(outcome, policies, notes)


def _check_period(project: Project, start: datetime, end: datetime) -> None:
    if project.config.time is None:
        raise KitError(
            "a table without a time column has no history to replay",
            "'time' in mlops.yaml: the column of the prediction time",
            "mlops run reviews a new version against the champion",
        )
    if start >= end:
        raise KitError(
            f"the replay ends at {end:%Y-%m-%d %H:%M} UTC, not after its start",
            f"--to after --from, {start:%Y-%m-%d %H:%M} UTC",
            "mlops replay --from 2013-07-01 --to 2014-01-01",
        )


def _find_version(project: Project, start: datetime) -> ModelVersion:
    """Find the version that served at the start, else the champion."""
    champion = versions.require_champion(project)
    promotions = sorted(approvals.list_promotions(project), key=lambda entry: entry.number)
    served = champion
    for promotion in promotions:
        version = versions.load_version(project, promotion.version)
        if version.run and datetime.fromisoformat(version.as_of) <= start:
            served = version
    return served


def _load_recipe(project: Project, version: ModelVersion) -> Recipe:
    run = project.reports_folder / version.run
    if not version.run or "recipe" not in list_artifacts(run):
        raise RunFailedError(
            f"run {version.run!r}, which made version {version.version}, no longer has its recipe",
            f"the folder of the run in {project.config.reports}/",
            "restore it, or mlops run",
        )
    return Recipe.from_dict(read_run_artifact(run, "recipe"))


def _describe_recipe(version: ModelVersion, recipe: Recipe, start: datetime) -> list[str]:
    """Describe which recipe was replayed, and whether it knew more than the start of the period."""
    as_of = datetime.fromisoformat(version.as_of)
    sentence = f"Recipe of version {version.version}: {recipe.family}, as of {as_of:%Y-%m-%d}."
    if as_of > start:
        sentence += (
            " It was searched on rows later than the start of the replay, which favors all "
            "policies alike."
        )
    return [sentence]


def simulate(  # noqa: PLR0913 - what is replayed, and how
    project: Project,
    recipe: Recipe,
    classes: tuple[Any, ...],
    period: tuple[datetime, datetime],
    policies: Sequence[ReplayPolicy],
    report: ProgressReporter,
    processes: int | None = None,
) -> ReplayOutcome:
    """Simulate policies with a recipe, and the oracle.

    Raises
    ------
    KitError, RunFailedError
        See ``replay_policies``.
    """
    report("reading the rows and building their features", transient=True)
    history = load_history(project, classes, period)
    stores_folder = project.resolve_path(_STORES_FOLDER)
    description = workers.describe_store(history, recipe, stores_folder)
    _remove_old_stores(stores_folder, description.folder)
    store = workers.open_store(description)
    first_fit = store.get_fit(FitRequest(history.start))
    if not first_fit.is_usable:
        raise RunFailedError(
            f"no model can be fitted as of the start of the replay: {first_fit.summary.note}",
            "enough labeled rows before it",
            "a later --from",
        )
    timelines = _simulate_timelines(store, description, policies, report, processes)
    return _evaluate(store, first_fit, timelines)


def _simulate_timelines(
    store: ReplayStore,
    description: workers.StoreDescription,
    policies: Sequence[ReplayPolicy],
    report: ProgressReporter,
    processes: int | None,
) -> list[PolicyTimeline]:
    """Make the oracle's candidates, and simulate each policy."""
    process_count = workers.choose_process_count(store, processes)
    passes = sorted({window.evaluated_at for window in store.history.windows})
    requests = [FitRequest(as_of) for as_of in passes]
    fits = workers.make_fits(store, description, requests, process_count)
    for number, request in enumerate(fits, start=1):
        report(
            f"model as of {request.as_of:%Y-%m-%d} fitted ({number} of {len(requests)})",
            transient=True,
        )
    by_name = {}
    for timeline in workers.simulate_policies(store, description, policies, process_count):
        by_name[timeline.name] = timeline
        report(
            f"policy {timeline.name} replayed ({len(by_name)} of {len(policies)})", transient=True
        )
    for request in requests:
        store.get_fit(request)
    for timeline in by_name.values():
        for request in timeline.requests:
            store.get_fit(request)
    return [by_name[policy.name] for policy in policies]


def _evaluate(
    store: ReplayStore, first_fit: ReplayFit, timelines: list[PolicyTimeline]
) -> ReplayOutcome:
    """Measure what each policy cost, and compare it with the oracle."""
    losses = WindowLosses(store.history, first_fit, store.recipe.threshold)
    fits = {fit.request: fit for fit in store.list_fits()}
    policies = []
    for timeline in timelines:
        loss = PolicyLoss(
            timeline.name,
            losses.sum_timeline(timeline.periods, fits),
            len(timeline.retrained_at),
        )
        promotions = sum(decision.outcome == "promoted" for decision in timeline.decisions)
        policies.append(ReplayedPolicy(loss, promotions, count_alarms(timeline, losses, fits)))
    others = [fit for fit in fits.values() if fit is not first_fit]
    oracles = []
    choices = []
    ratios = choose_cost_ratios(losses, first_fit)
    config = store.history.project.config
    for ratio in ratios:
        periods = find_best_periods(losses, [first_fit, *others], ratio.retraining_cost)
        retrainings = len(periods) - 1
        loss = PolicyLoss(ORACLE_POLICY, losses.sum_timeline(periods, fits), retrainings)
        oracles.append(ReplayedPolicy(loss, retrainings, AlarmCounts(0, 0)))
        policy_losses = [policy.loss for policy in policies]
        choices.append(choose_policy(policy_losses, ratio, losses.row_counts, config))
    return ReplayOutcome(policies, oracles, ratios, choices, timelines, losses)


def _remove_old_stores(folder: Path, present: Path) -> None:
    """Remove the stores of earlier replays, except for the newest ones."""
    others = [store for store in folder.iterdir() if store.is_dir() and store != present]
    others.sort(key=lambda store: store.stat().st_mtime, reverse=True)
    for store in others[_KEPT_STORES - 1 :]:
        shutil.rmtree(store, ignore_errors=True)
