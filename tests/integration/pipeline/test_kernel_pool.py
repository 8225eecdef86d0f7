"""Kernels forked from the fork server: fresh, isolated, and safe for all libraries of a stage."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import papermill
import psutil
import pytest
from nbformat.v4 import new_notebook

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.extras import MissingExtraError
from mlops_kit.pipeline import kernel_pool, papermill_engine, preloaded_modules
from mlops_kit.pipeline.fork_server import ChildRequest
from mlops_kit.project import loader
from tests.support import chains

PRELOADED_MODULES = (
    "half",
    "threaded",
    "probe",
    "sklearn.ensemble",
    "lightgbm",
    "pyarrow.parquet",
    "duckdb",
    "optuna",
    "mlflow",
)
PROBE_MODULE = """
import gc, os, sys, threading, time

def is_ready():
    return gc.get_freeze_count() > 0

def list_modules():
    return sorted(sys.modules)

def describe_process():
    stdin = os.read(0, 1).decode()
    return [os.getcwd(), sorted(os.environ), stdin, threading.active_count()]

def fail():
    raise ValueError("no such thing")
"""
THREADED_MODULE = """
import threading, time
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
"""


@pytest.fixture(scope="module", autouse=True)
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kernel_pool.ForkServer]:
    """A fork server of this file's own, with heavy libraries and a module that starts a thread."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "threaded.py").write_text(THREADED_MODULE)
    (folder / "probe.py").write_text(PROBE_MODULE)
    (folder / "half").mkdir()
    (folder / "half" / "__init__.py").write_text("import half.part\n1 / 0\n")
    (folder / "half" / "part.py").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        server = kernel_pool.ForkServer(PRELOADED_MODULES)
        patch.setattr(kernel_pool, "_fork_server", server)
        while not server.call_function("probe:is_ready", cwd=str(folder), log=str(folder / "log")):
            time.sleep(0.1)
        yield server
        server.close()


def execute_cells(folder: Path, *sources: str, **options: Any) -> list[str]:
    """Execute cells as the pipeline does; what each of them prints."""
    papermill_engine.register_engine()
    folder.mkdir(exist_ok=True)
    target = folder / "out.ipynb"
    papermill.execute_notebook(
        new_notebook(cells=[chains.make_cell(source) for source in sources]),
        None,
        engine_name=papermill_engine.ENGINE_NAME,
        kernel_name="python3",
        language="python",
        progress_bar=False,
        kernel_target=str(target),
        kernel_log=str(folder / "log"),
        kernel_cwd=str(folder),
        **options,
    )
    printed = []
    for executed in nbformat.read(target, as_version=4).cells:
        texts = [output.get("text", "") for output in executed.outputs]
        printed.append("".join(texts).strip())
    return printed


FIT_MODELS = """
import numpy as np, lightgbm
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
x = np.random.default_rng(0).normal(size=(2000, 5))
y = x[:, 0] > 0
models = (
    HistGradientBoostingClassifier(max_iter=5),
    lightgbm.LGBMClassifier(n_estimators=5, verbose=-1),
    RandomForestClassifier(5, n_jobs=2, random_state=0),
)
print([round(float(m.fit(x, y).predict_proba(x)[:, 1].sum()), 6) for m in models])
"""
QUERY_TABLES = """
import duckdb, pyarrow as pa, pyarrow.parquet as pq
pq.write_table(pa.table({"a": range(100_000)}), "t.parquet")
total = duckdb.sql("SELECT sum(a) FROM 't.parquet'").fetchall()[0][0]
print(total, pq.read_table("t.parquet").num_rows)
"""
RUN_TRIALS = """
import mlflow, optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
sampler = optuna.samplers.TPESampler(seed=0)
study = optuna.create_study(storage="sqlite:///study.db", sampler=sampler)
study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=4, n_jobs=2)
with mlflow.start_run() as run:
    mlflow.log_metric("best", study.best_value)
print(len(study.trials), mlflow.get_run(run.info.run_id).data.metrics.keys())
"""


def test_threads_of_libraries_work_in_two_kernels_at_once(
    tmp_path: Path, mlflow_store: Path
) -> None:
    env = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{mlflow_store}/mlflow.db"}
    sources = (FIT_MODELS, QUERY_TABLES, RUN_TRIALS, FIT_MODELS, QUERY_TABLES)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(
            lambda name: execute_cells(tmp_path / name, *sources, kernel_env=env), "ab"
        )
    assert first == second
    assert first[0] == first[3]
    assert first[1:3] == ["4999950000 100000", "4 dict_keys(['best'])"]


DRAW_RANDOM_NUMBERS = """
import random, secrets, uuid, numpy as np
print(random.random(), np.random.random(), np.random.default_rng().random())
print(uuid.uuid4(), secrets.token_hex(8))
"""


def test_kernels_do_not_share_random_numbers(tmp_path: Path) -> None:
    first, second = (
        execute_cells(tmp_path / name, DRAW_RANDOM_NUMBERS)[0].split() for name in "ab"
    )
    assert len(first) == 5
    assert not set(first) & set(second)


INSPECT_THREADS = """
import sys, threading
print('lightgbm' in sys.modules, 'threaded' in sys.modules)
import threaded
print(sum(t.name.startswith('Thread-') for t in threading.enumerate()))
"""


def test_module_that_starts_a_thread_is_not_preloaded(
    fork_server: kernel_pool.ForkServer, tmp_path: Path
) -> None:
    log = str(tmp_path / "log")
    loaded = set(fork_server.call_function("probe:list_modules", cwd=str(tmp_path), log=log))
    assert loaded >= {"lightgbm", "mlflow", "probe"}
    assert not loaded & {"threaded", "half", "half.part"}
    assert execute_cells(tmp_path, INSPECT_THREADS)[0].split()[:2] == ["True", "False"]


def test_forked_process_is_isolated(
    fork_server: kernel_pool.ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINE", "1")
    monkeypatch.delenv("HOME")
    log = str(tmp_path / "log")
    described = fork_server.call_function("probe:describe_process", cwd=str(tmp_path), log=log)
    folder, variables, stdin, threads = described
    assert (folder, stdin, threads) == (str(tmp_path), "", 1)
    assert "MINE" in variables
    assert "HOME" not in variables
    assert "MLFLOW_DISABLE_TELEMETRY" in variables
    expected = "probe:fail ended with exit code 1: ValueError: no such thing"
    with pytest.raises(RunFailedError, match=expected):
        fork_server.call_function("probe:fail", cwd=str(tmp_path), log=log)


KERNEL_VARIABLES = ("MLOPS_RUN", "MLOPS_PROJECT", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")
DESCRIBE_KERNEL = f"""
import os, sys
os.write(2, b'a complaint')
variables = [os.environ[name] for name in {KERNEL_VARIABLES}]
print(sys.executable, os.getcwd(), *variables, repr(sys.stdin.read()), sep='|')
"""


@pytest.mark.parametrize("plain", [False, True], ids=["warm", "plain"])
def test_kernel_runs_this_interpreter_in_the_project_with_its_run(
    plain: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_RUN", "another")
    root = tmp_path / "root"
    run = tmp_path / "run"
    [printed] = execute_cells(
        root,
        DESCRIBE_KERNEL,
        kernel_plain=plain,
        kernel_env=kernel_pool.build_kernel_environment(run, root),
    )
    assert printed.split("|") == [
        sys.executable,
        str(root),
        str(run),
        str(root),
        "true",
        "true",
        "''",
    ]
    notebook = nbformat.writes(nbformat.read(root / "out.ipynb", as_version=4))
    assert "a complaint" in (root / "log").read_text() + notebook


def test_four_kernels_start_at_once(fork_server: kernel_pool.ForkServer, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        printed = [*pool.map(lambda n: execute_cells(tmp_path / str(n), f"print({n})"), range(8))]
    assert printed == [[str(n)] for n in range(8)]
    assert chains.list_process_tree(fork_server.pid)[1:] == []


START_DAEMONS = """
import subprocess, sys
print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)
command = 'sleep 601 >/dev/null 2>&1 & echo $!'
print(subprocess.run(command, shell=True, capture_output=True, text=True).stdout)
"""


def test_processes_of_a_kernel_end_with_it_even_daemons(tmp_path: Path) -> None:
    pids = [int(pid) for pid in execute_cells(tmp_path, START_DAEMONS)[0].split()]
    assert len(pids) == 2
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


START_SLEEPING_CHILD = """
import time
from mlops_kit.pipeline import kernel_pool
from mlops_kit.pipeline.fork_server import ChildRequest
request = ChildRequest({folder!r}, {{}}, 'log', call='time:sleep', args=[60], answer='a')
server = kernel_pool.get_fork_server()
print(server.start_child(request).pid, server.pid, flush=True)
time.sleep(60)
"""


def test_forked_processes_end_with_the_fork_server(tmp_path: Path) -> None:
    code = START_SLEEPING_CHILD.format(folder=str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        try:
            processes = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        finally:
            parent.kill()
    assert len(processes) == 2
    assert psutil.wait_procs(processes, timeout=60)[1] == []


def test_ended_fork_server_is_reported(tmp_path: Path) -> None:
    server = kernel_pool.ForkServer()
    request = ChildRequest(
        str(tmp_path),
        dict(os.environ),
        str(tmp_path / "log"),
        call="time:sleep",
        args=[60],
        answer=str(tmp_path / "a"),
    )
    child = server.start_child(request)
    os.kill(server.pid, signal.SIGKILL)
    assert child.wait(60) == -9
    with pytest.raises(RunFailedError, match="has ended"):
        server.start_child(request)


def test_modules_of_the_notebooks_are_preloaded_but_not_those_of_the_project(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.py").touch()
    cells = ["import mine, json\nfrom csv import reader", "%matplotlib inline\nimport uuid"]
    chains.write_project(tmp_path, {"one": ("writes: [one]", cells)})
    modules = preloaded_modules.list_modules_to_preload(loader.load_project(tmp_path), ["one"])
    assert modules[:2] == ["json", "csv"]
    assert not {"mine", "uuid"} & set(modules)
    assert "mlops_kit.stages.stage" in modules


def test_fork_server_is_not_started_without_the_libraries_that_run_notebooks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernel_pool, "_fork_server", None)
    monkeypatch.setitem(sys.modules, "papermill", None)
    with pytest.raises(MissingExtraError, match="papermill is not installed") as error:
        kernel_pool.get_fork_server()
    assert error.value.hint == 'pip install "mlops-kit[train]"'
    assert kernel_pool._fork_server is None
