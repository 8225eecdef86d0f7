"""Fits and simulations of a replay in parallel processes, over one store on disk.

A process opens the store once. It reads the rows from the store's folder, so that a task is small.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mlops_kit.core.files import hash_file, hash_json, write_atomically
from mlops_kit.core.import_tracer import list_installed_versions
from mlops_kit.core.lazy import pd
from mlops_kit.pipeline.current_project import CurrentProject
from mlops_kit.pipeline.fingerprint import hash_code_origins
from mlops_kit.project.loader import Project
from mlops_kit.project.plugins import activate_plugins, list_plugins
from mlops_kit.registry.recipe import Recipe
from mlops_kit.watch.policy_replay.fits import FitRequest
from mlops_kit.watch.policy_replay.history import ReplayHistory
from mlops_kit.watch.policy_replay.policies import ReplayPolicy
from mlops_kit.watch.policy_replay.simulation import PolicySimulation, PolicyTimeline
from mlops_kit.watch.policy_replay.store import ReplayStore

_MIN_ROWS_FOR_PROCESSES = 20_000  # starting a process takes longer than the fits of fewer rows
_ROWS_FILE = "rows.parquet"
_LABEL_TIMES_COLUMN = "label known at"
_REJECTED_COLUMN = "rejected"
# They decide neither a fit nor what monitoring finds in a window.
_SETTINGS_OUTSIDE_A_STORE = ("retrain", "as_of", "until", "alerts", "people", "approval", "serve")

# By its folder, whose name stands for all that decides a fit; at most one.
_open_stores: dict[Path, ReplayStore] = {}

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


class StoreDescription(NamedTuple):
    """What a process needs to open the store of a replay.

    Attributes
    ----------
    project : Project
        The project.
    recipe : Recipe
        What is fitted.
    classes : tuple
        The classes in the order of their codes.
    start, end : datetime
        The period.
    digest : str
        Hash of the rows.
    folder : Path
        The store's folder.
    """

    project: Project
    recipe: Recipe
    classes: tuple[Any, ...]
    start: datetime
    end: datetime
    digest: str
    folder: Path


def describe_store(history: ReplayHistory, recipe: Recipe, folder: Path) -> StoreDescription:
    """Describe the store of a history and a recipe, and write its rows unless they are there.

    Parameters
    ----------
    folder : Path
        The folder of all stores of a project.
    """
    settings = history.project.config.model_dump(mode="json")
    for name in _SETTINGS_OUTSIDE_A_STORE:
        settings.pop(name, None)
    key = hash_json(
        {
            "rows": history.digest,
            "recipe": recipe.to_dict(),
            "settings": settings,
            "code": _describe_code(history.project),
            "start": history.start.isoformat(),
            "end": history.end.isoformat(),
        }
    )
    store_folder = folder / key[:16]
    rows_file = store_folder / _ROWS_FILE
    if not rows_file.exists():
        table = history.table.copy(deep=False)
        table[_LABEL_TIMES_COLUMN] = history.label_times
        table[_REJECTED_COLUMN] = history.rejected
        write_atomically(rows_file, table.to_parquet)
    return StoreDescription(
        project=history.project,
        recipe=recipe,
        classes=history.classes,
        start=history.start,
        end=history.end,
        digest=history.digest,
        folder=store_folder,
    )


def _describe_code(project: Project) -> dict[str, Any]:
    """Describe the code that fits and monitors: this package, plugins and installed packages."""
    plugin_files = {}
    for plugin in list_plugins():
        for path in plugin.stamps:
            plugin_files[path] = hash_file(Path(path))
    return {
        "package": hash_code_origins(CurrentProject(project))["mlops_kit"],
        "plugins": plugin_files,
        "installed": list_installed_versions(),
    }


def open_store(description: StoreDescription) -> ReplayStore:
    """Open the store of a replay."""
    table = pd.read_parquet(description.folder / _ROWS_FILE)
    label_times = table.pop(_LABEL_TIMES_COLUMN)
    rejected = table.pop(_REJECTED_COLUMN).to_numpy(dtype=bool)
    history = ReplayHistory(
        project=description.project,
        table=table,
        label_times=label_times,
        rejected=rejected,
        classes=description.classes,
        start=description.start,
        end=description.end,
        digest=description.digest,
    )
    return ReplayStore(history, description.recipe, description.folder)


def choose_process_count(store: ReplayStore, processes: int | None) -> int:
    """Choose how many processes work: as many as there are cores, or one for a small table."""
    if processes is not None:
        return max(1, processes)
    if len(store.history.table) < _MIN_ROWS_FOR_PROCESSES:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_fits(
    store: ReplayStore,
    description: StoreDescription,
    requests: Sequence[FitRequest],
    processes: int,
) -> Iterator[FitRequest]:
    """Make fits, and yield each when it is stored."""
    return _run_tasks(store, description, requests, _make_fit, processes)


def simulate_policies(
    store: ReplayStore,
    description: StoreDescription,
    policies: Sequence[ReplayPolicy],
    processes: int,
) -> Iterator[PolicyTimeline]:
    """Simulate policies, and yield each when it is done."""
    return _run_tasks(store, description, policies, _simulate_policy, processes)


def _make_fit(store: ReplayStore, request: FitRequest) -> FitRequest:
    store.get_fit(request)
    return request


def _simulate_policy(store: ReplayStore, policy: ReplayPolicy) -> PolicyTimeline:
    return PolicySimulation(store, policy).run()


def _run_tasks(
    store: ReplayStore,
    description: StoreDescription,
    tasks: Sequence[_Task],
    function: Callable[[ReplayStore, _Task], _Result],
    processes: int,
) -> Iterator[_Result]:
    if processes == 1 or len(tasks) < 2:
        for task in tasks:
            yield function(store, task)
        return
    from joblib import Parallel, delayed

    parallel = Parallel(n_jobs=processes, return_as="generator_unordered")
    yield from parallel(delayed(_run_task)(description, function, task) for task in tasks)


def _run_task(
    description: StoreDescription,
    function: Callable[[ReplayStore, _Task], _Result],
    task: _Task,
) -> _Result:
    """Run a task in a process of its own, which keeps the store open for its later tasks."""
    store = _open_stores.get(description.folder)
    if store is None:
        activate_plugins(description.project.root, description.project.config.plugins)
        store = open_store(description)
        _open_stores.clear()
        _open_stores[description.folder] = store
    return function(store, task)
