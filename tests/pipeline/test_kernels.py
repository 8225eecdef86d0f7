"""Kernels forked from the nursery: fresh, apart from one another, and sound for all the libraries that a stage uses."""

from __future__ import annotations

import os
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
from mlops_kit.pipeline import kernel_pool, papermill_engine
from mlops_kit.project import loader

from . import chains

LIBRARIES = (
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
PROBE = """
import gc, os, sys, threading, time
def ready(): return gc.get_freeze_count() > 0
def modules(): return sorted(sys.modules)
def here(): return [os.getcwd(), sorted(os.environ), os.read(0, 1).decode(), threading.active_count()]
def fails(): raise ValueError("no such thing")
def sleeps(): time.sleep(60)
"""


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kernel_pool.ForkServer]:
    """A nursery of its own, with heavy libraries, and one that starts a thread; all kernels of this file come from it."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    )
    (folder / "probe.py").write_text(PROBE)
    (folder / "half").mkdir()
    (folder / "half" / "__init__.py").write_text("import half.part\n1 / 0\n")
    (folder / "half" / "part.py").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        made = kernel_pool.ForkServer(LIBRARIES)
        patch.setattr(kernel_pool, "_fork_server", made)
        while not made.call_function("probe:ready", cwd=str(folder), log=str(folder / "log")):
            time.sleep(0.1)
        yield made
        made.close()


def ran(folder: Path, *cells: str, **given: Any) -> list[str]:
    """What each cell prints in a kernel that is run as the chain does."""
    papermill_engine.register_engine()
    folder.mkdir(exist_ok=True)
    target = folder / "out.ipynb"
    book = new_notebook(cells=[chains.cell(c) for c in cells])
    papermill.execute_notebook(
        book,
        None,
        engine_name=papermill_engine.ENGINE_NAME,
        kernel_name="python3",
        language="python",
        progress_bar=False,
        kernel_target=str(target),
        kernel_log=str(folder / "log"),
        kernel_cwd=str(folder),
        **given,
    )
    return [
        "".join(o.get("text", "") for o in c.outputs).strip()
        for c in nbformat.read(target, as_version=4).cells
    ]


FITS = """
import numpy as np, lightgbm
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
x = np.random.default_rng(0).normal(size=(2000, 5)); y = x[:, 0] > 0
print([round(float(m.fit(x, y).predict_proba(x)[:, 1].sum()), 6) for m in (HistGradientBoostingClassifier(max_iter=5), lightgbm.LGBMClassifier(n_estimators=5, verbose=-1), RandomForestClassifier(5, n_jobs=2, random_state=0))])
"""
TABLES = """
import duckdb, pyarrow as pa, pyarrow.parquet as pq
pq.write_table(pa.table({"a": range(100_000)}), "t.parquet")
print(duckdb.sql("SELECT sum(a) FROM 't.parquet'").fetchall()[0][0], pq.read_table("t.parquet").num_rows)
"""
TRIALS = """
import mlflow, optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.create_study(storage="sqlite:///study.db", sampler=optuna.samplers.TPESampler(seed=0))
study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=4, n_jobs=2)
with mlflow.start_run() as run:
    mlflow.log_metric("best", study.best_value)
print(len(study.trials), mlflow.get_run(run.info.run_id).data.metrics.keys())
"""


def test_threads_of_libraries_work_in_two_kernels_at_once_and_again(
    tmp_path: Path, ready: Path
) -> None:
    env = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{ready}/mlflow.db"}
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(
            lambda name: ran(tmp_path / name, FITS, TABLES, TRIALS, FITS, TABLES, kernel_env=env),
            "ab",
        )
    assert first == second
    assert first[0] == first[3]
    assert first[1:3] == ["4999950000 100000", "4 dict_keys(['best'])"]


def test_kernels_do_not_share_random_numbers(tmp_path: Path) -> None:
    code = "import random, secrets, uuid, numpy as np\nprint(random.random(), np.random.random(), np.random.default_rng().random(), uuid.uuid4(), secrets.token_hex(8))"
    first, second = (ran(tmp_path / name, code)[0].split() for name in "ab")
    assert len(first) == 5
    assert not set(first) & set(second)


def test_a_module_that_starts_a_thread_is_left_out(
    warm: kernel_pool.ForkServer, tmp_path: Path
) -> None:
    held = warm.call_function("probe:modules", cwd=str(tmp_path), log=str(tmp_path / "log"))
    assert {"lightgbm", "mlflow", "probe"} <= set(held)
    assert not {
        "threaded",
        "half",
        "half.part",
    } & set(held)
    code = "import sys, threading\nprint('lightgbm' in sys.modules, 'threaded' in sys.modules)\nimport threaded\nprint(sum(t.name.startswith('Thread-') for t in threading.enumerate()))"
    assert ran(tmp_path, code)[0].split()[:2] == ["True", "False"]


def test_a_fork_is_a_process_of_its_own(
    warm: kernel_pool.ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINE", "1")
    monkeypatch.delenv("HOME")
    folder, names, read, threads = warm.call_function(
        "probe:here", cwd=str(tmp_path), log=str(tmp_path / "log")
    )
    assert (folder, read, threads) == (str(tmp_path), "", 1)
    assert "MINE" in names
    assert "HOME" not in names
    assert "MLFLOW_DISABLE_TELEMETRY" in names
    with pytest.raises(RunFailedError, match="probe:fails ended with 1: ValueError: no such thing"):
        warm.call_function("probe:fails", cwd=str(tmp_path), log=str(tmp_path / "log"))


@pytest.mark.parametrize("plain", [False, True], ids=["warm", "plain"])
def test_a_kernel_is_this_python_in_the_projects_root_with_its_run(
    plain: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_RUN", "another")
    names = ("MLOPS_RUN", "MLOPS_PROJECT", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    code = f"import os, sys\nos.write(2, b'a complaint')\nprint(sys.executable, os.getcwd(), *(os.environ[n] for n in {names}), repr(sys.stdin.read()), sep='|')"
    folder = tmp_path / "root"
    [said] = ran(
        folder,
        code,
        kernel_plain=plain,
        kernel_env=kernel_pool.build_kernel_environment(tmp_path / "run", folder),
    )
    assert said.split("|") == [
        sys.executable,
        str(folder),
        str(tmp_path / "run"),
        str(folder),
        "true",
        "true",
        "''",
    ]
    assert "a complaint" in (folder / "log").read_text() + nbformat.writes(
        nbformat.read(folder / "out.ipynb", as_version=4)
    )


def test_four_kernels_start_at_once(warm: kernel_pool.ForkServer, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        said = [*pool.map(lambda n: ran(tmp_path / str(n), f"print({n})"), range(8))]
    assert said == [[str(n)] for n in range(8)]
    assert chains.below(warm.process.pid)[1:] == []


def test_what_a_kernel_leaves_ends_with_it_daemons_too(
    warm: kernel_pool.ForkServer, tmp_path: Path
) -> None:
    daemon = "import subprocess, sys\nprint(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)\nprint(subprocess.run('sleep 601 >/dev/null 2>&1 & echo $!', shell=True, capture_output=True, text=True).stdout)"
    pids = [int(pid) for pid in ran(tmp_path, daemon)[0].split()]
    assert len(pids) == 2
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


def test_with_the_nursery_goes_all_that_it_has_forked(tmp_path: Path) -> None:
    code = f"import time\nfrom mlops_kit.pipeline import kernel_pool\nchild = kernel_pool.get_fork_server().start_child({str(tmp_path)!r}, {{}}, 'log', call='time:sleep', args=[60], answer='a')\nprint(child.pid, kernel_pool.get_fork_server().process.pid, flush=True)\ntime.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        held = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert psutil.wait_procs(held, timeout=60)[1] == []


def test_a_nursery_that_is_gone_is_told(tmp_path: Path) -> None:
    made = kernel_pool.ForkServer()
    child = made.start_child(
        str(tmp_path),
        dict(os.environ),
        str(tmp_path / "log"),
        call="time:sleep",
        args=[60],
        answer=str(tmp_path / "a"),
    )
    made.process.kill()
    assert child.wait(60) == -9
    with pytest.raises(RunFailedError, match="has gone"):
        made.start_child(
            str(tmp_path), {}, str(tmp_path / "log"), call="time:sleep", args=[0], answer=""
        )


def test_the_modules_of_the_notebooks_are_wanted_and_none_of_the_projects_own(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.py").touch()
    chains.project(
        tmp_path,
        {
            "one": (
                "writes: [one]",
                ["import mine, json\nfrom csv import reader", "%matplotlib inline\nimport uuid"],
            )
        },
    )
    found = kernel_pool.list_modules_to_preload(loader.load_project(tmp_path), ["one"])
    assert found[:2] == ["json", "csv"]
    assert not {"mine", "uuid"} & set(found)
    assert "mlops_kit.stages.stage" in found
