"""What a cell uses, in whatever way, makes its stage run again when it changes.

Each case is a cell, a change of the world, and the reason that the plan gives: the name of what
changed, that something cannot be traced, or none at all.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from mlops_kit.pipeline import runner
from mlops_kit.pipeline.current_project import CurrentProject
from mlops_kit.pipeline.fingerprint import find_differences
from mlops_kit.pipeline.plan import PlannedStage, plan_stages
from mlops_kit.pipeline.stage_dependencies import collect_dependencies, refresh_dependencies
from mlops_kit.project import loader
from mlops_kit.project.run_manifest import RunManifest, StageDependencies
from tests.support.environment import ROOT, make_clean_environment

pytestmark = [pytest.mark.integration, pytest.mark.slow]

STAGE = "only"
UNTRACED = "uses something that cannot be traced"
COMMON_FILES = {
    "mlops.yaml": "name: tiny\nstages:\n  only: {notebook: only.ipynb}\n",
    "data/a.txt": "1\n2\n",
    "data/b.txt": "3\n",
    "data/deep/c.txt": "4\n",
    "code.py": "import part\nVALUE = part.VALUE\n",
    "part.py": "VALUE = 1\n",
    "jobs/__init__.py": "",
    "jobs/step.py": "VALUE = 2\n",
    "read.py": (
        "import sys\nimport part\nfrom pathlib import Path\n"
        "print(Path(sys.argv[1] if sys.argv[1:] else 'data/a.txt').read_text())\n"
    ),
    "lister.py": "import os\nprint(os.listdir('data'))\n",
    "read.sh": "for name in data/*.txt; do\n  cat $name\ndone\n",
    "tables/x.csv": "x\n1\n",
}
ASSEMBLED_NAME = "folder, name = 'tables', 'x'\n"
READER = "def read(name):\n    return open(name).read()\n"
NAMES = "['data/a.txt', 'data/b.txt']"


@dataclass(frozen=True)
class Case:
    """A cell, a change, and the beginning of what the plan says; empty: it is skipped."""

    cell: str
    change: Callable[[Path], object]
    reason: str = ""
    files: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], object] | None = None


def edit(name: str, text: str = "9\n9\n") -> Callable[[Path], object]:
    """Return a change that writes a file."""

    def write_file(home: Path) -> None:
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return write_file


def remove(name: str) -> Callable[[Path], object]:
    """Return a change that removes a file."""
    return lambda home: (home / name).unlink()


def keep(home: Path) -> None:
    """Change nothing."""


def execute_sql(home: Path, *statements: str) -> None:
    with closing(sqlite3.connect(home / "state.db")) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def create_database(home: Path) -> None:
    execute_sql(home, "CREATE TABLE t (x INTEGER)", "INSERT INTO t VALUES (1)")


def insert_row(home: Path) -> None:
    execute_sql(home, "INSERT INTO t VALUES (2)")


def create_parquet_files(home: Path) -> None:
    import pandas as pd

    pd.DataFrame({"x": [1]}).to_parquet(home / "tables" / "x.parquet")


def replace_parquet_file(home: Path) -> None:
    import pandas as pd

    pd.DataFrame({"x": [1, 2, 3]}).to_parquet(home / "tables" / "x.parquet")


def create_duckdb_file(home: Path) -> None:
    import duckdb

    with duckdb.connect(str(home / "d.duckdb")) as database:
        database.execute("CREATE TABLE t AS SELECT 1 AS x")


def insert_into_duckdb_file(home: Path) -> None:
    import duckdb

    with duckdb.connect(str(home / "d.duckdb")) as database:
        database.execute("INSERT INTO t SELECT range FROM range(5)")


CASES = {
    # Code that is read as a file.
    "%run": Case("%run code.py", edit("code.py", "VALUE = 2\n"), "`code.py` changed"),
    "module that a %run script imports": Case(
        "%run code.py", edit("part.py", "VALUE = 2\n"), "`part.py` changed"
    ),
    "exec of a file": Case(
        "exec(open('part.py').read())", edit("part.py", "VALUE = 2\n"), "`part.py` changed"
    ),
    "exec of compiled text": Case(
        "from pathlib import Path\nexec(compile(Path('part.py').read_text(), 'part.py', 'exec'))",
        edit("part.py", "VALUE = 2\n"),
        "`part.py` changed",
    ),
    "runpy.run_path": Case(
        "import runpy\nrunpy.run_path('part.py')",
        edit("part.py", "VALUE = 2\n"),
        "`part.py` changed",
    ),
    "runpy.run_module": Case(
        "import runpy\nrunpy.run_module('jobs.step')",
        edit("jobs/step.py", "VALUE = 3\n"),
        "`jobs/step.py` changed",
    ),
    "spec_from_file_location": Case(
        "import importlib.util\n"
        "spec = importlib.util.spec_from_file_location('loaded', 'part.py')\n"
        "module = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(module)",
        edit("part.py", "VALUE = 2\n"),
        "`part.py` changed",
    ),
    "SourceFileLoader": Case(
        "from importlib.machinery import SourceFileLoader\n"
        "SourceFileLoader('loaded', 'part.py').load_module()",
        edit("part.py", "VALUE = 2\n"),
        "`part.py` changed",
    ),
    "import from a folder outside of the project": Case(
        "import sys\nsys.path.insert(0, '../outside')\nimport far",
        lambda home: edit("far.py", "VALUE = 2\n")(home.parent / "outside"),
        "`{outside}/far.py` changed",
        prepare=lambda home: edit("far.py", "VALUE = 1\n")(home.parent / "outside"),
    ),
    # Listings.
    "os.listdir": Case("import os\nos.listdir('data')", edit("data/z.txt"), "`data/` has"),
    "Path.iterdir": Case(
        "from pathlib import Path\nlist(Path('data').iterdir())", edit("data/z.bin"), "`data/` has"
    ),
    "os.scandir": Case("import os\nlist(os.scandir('data'))", edit("data/.z"), "`data/` has"),
    "glob.glob": Case(
        "import glob\nglob.glob('data/*.txt')", edit("data/z.txt"), "`data/*.txt` has"
    ),
    "glob.glob, a file that does not match": Case(
        "import glob\nglob.glob('data/*.txt')", edit("data/z.csv")
    ),
    "glob.glob without a match": Case(
        "import glob\nglob.glob('inbox/*.txt')", edit("inbox/z.txt"), "`inbox/*.txt` has"
    ),
    "recursive glob": Case(
        "import glob\nglob.glob('data/**/*.txt', recursive=True)",
        edit("data/deep/z.txt"),
        "`data/**/*.txt` has",
    ),
    "Path.glob": Case(
        "from pathlib import Path\nlist(Path('data').glob('*.txt'))",
        edit("data/z.txt"),
        "`data/*.txt` has",
    ),
    "Path.rglob": Case(
        "from pathlib import Path\nlist(Path('data').rglob('*.txt'))",
        edit("data/deep/z.txt"),
        "`data/**/*.txt` has",
    ),
    "os.walk": Case(
        "import os\nlist(os.walk('data'))", edit("data/deep/z.txt"), "`data/deep/` has"
    ),
    "a folder that a thread lists": Case(
        "import os\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(1) as pool:\n    list(pool.map(os.listdir, ['data']))",
        edit("data/z.txt"),
        "`data/` has",
    ),
    "a listed file is removed": Case(
        "import os\nos.listdir('data')", remove("data/b.txt"), "`data/` does not have"
    ),
    "a file that a pattern found": Case(
        "from pathlib import Path\n[p.read_text() for p in Path('data').glob('*.txt')]",
        edit("data/b.txt"),
        "`data/b.txt` changed",
    ),
    # Files that are looked for.
    "os.path.exists": Case("import os\nos.path.exists('flag')", edit("flag"), "`flag` exists now"),
    "Path.is_file": Case(
        "from pathlib import Path\nPath('flag').is_file()", edit("flag"), "`flag` exists now"
    ),
    "open fails": Case(
        "try:\n    open('flag')\nexcept FileNotFoundError:\n    pass",
        edit("flag"),
        "`flag` exists now",
    ),
    "os.stat fails": Case(
        "import os\ntry:\n    os.stat('flag')\nexcept OSError:\n    pass",
        edit("flag"),
        "`flag` exists now",
    ),
    "a hidden file is missing": Case(
        "import os\nos.path.exists('.flag')", edit(".flag"), "`.flag` exists now"
    ),
    "a folder is missing": Case(
        "import os\nos.path.isdir('inbox')", edit("inbox/z.txt"), "`inbox` exists now"
    ),
    "a file that existed is gone": Case(
        "import os\nos.path.exists('data/b.txt')", remove("data/b.txt"), "`data/b.txt` is gone"
    ),
    "size of a file": Case(
        "import os\nos.path.getsize('data/b.txt')", edit("data/b.txt"), "`data/b.txt` changed"
    ),
    # Child processes.
    "fork pool": Case(
        f"import multiprocessing\n{READER}"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        f"    pool.map(read, {NAMES})",
        edit("data/b.txt"),
        "`data/b.txt` changed",
    ),
    "ProcessPoolExecutor": Case(
        f"from concurrent.futures import ProcessPoolExecutor\n{READER}"
        f"with ProcessPoolExecutor(1) as pool:\n    list(pool.map(read, {NAMES}))",
        edit("data/b.txt"),
        "`data/b.txt` changed",
    ),
    "joblib": Case(
        f"from joblib import Parallel, delayed\n{READER}"
        f"Parallel(n_jobs=2)(delayed(read)(name) for name in {NAMES})",
        edit("data/b.txt"),
        "`data/b.txt` changed",
    ),
    "Python in subprocess": Case(
        "import subprocess, sys\nsubprocess.run([sys.executable, 'read.py'], check=True)",
        edit("data/a.txt"),
        "`data/a.txt` changed",
    ),
    "script of a subprocess": Case(
        "import subprocess, sys\nsubprocess.run([sys.executable, 'read.py'], check=True)",
        edit("read.py", "import part\n"),
        "`read.py` changed",
    ),
    "module that a subprocess imports": Case(
        "import subprocess, sys\nsubprocess.run([sys.executable, 'read.py'], check=True)",
        edit("part.py", "VALUE = 2\n"),
        "`part.py` changed",
    ),
    "module run with -m": Case(
        "import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'jobs.step'], check=True)",
        edit("jobs/step.py", "VALUE = 3\n"),
        "`jobs/step.py` changed",
    ),
    "folder that a subprocess lists": Case(
        "import subprocess, sys\nsubprocess.run([sys.executable, 'lister.py'], check=True)",
        edit("data/z.txt"),
        "`data/` has",
    ),
    "!python": Case(
        "!{__import__('sys').executable} read.py data/b.txt",
        edit("data/b.txt"),
        "`data/b.txt` changed",
    ),
    "%%bash with Python": Case(
        f"%%bash\n{sys.executable} read.py data/b.txt",
        edit("data/b.txt"),
        "`data/b.txt` changed",
    ),
    "%%bash": Case("%%bash\ncat data/a.txt\n", edit("data/a.txt"), "`data/a.txt` changed"),
    "! with a file": Case("!wc -l data/a.txt", edit("data/a.txt"), "`data/a.txt` changed"),
    "! with a pattern": Case("!cat data/*.txt", edit("data/z.txt"), "`data/*.txt` has"),
    "! assigned": Case("lines = !cat data/a.txt", edit("data/a.txt"), "`data/a.txt` changed"),
    "program with a file": Case(
        "import subprocess\nsubprocess.run(['sort', 'data/a.txt'], check=True)",
        edit("data/a.txt"),
        "`data/a.txt` changed",
    ),
    "pipe in a shell": Case(
        "import subprocess\nsubprocess.run('grep 1 data/a.txt | wc -l', shell=True)",
        edit("data/a.txt"),
        "`data/a.txt` changed",
    ),
    "os.system": Case(
        "import os\nos.system('cat < data/a.txt > copy.txt')",
        edit("data/a.txt"),
        "`data/a.txt` changed",
    ),
    "shell script": Case("!bash read.sh", edit("read.sh", "cat data/a.txt\n"), "`read.sh` changed"),
    "file that a shell script reads": Case(
        "!bash read.sh", edit("data/b.txt"), "`data/b.txt` changed"
    ),
    "text with a number sign": Case(
        "!grep '#1' data/a.txt || true", edit("data/a.txt"), "`data/a.txt` changed"
    ),
    "a file that exists is not created": Case(
        "try:\n    open('data/a.txt', 'x')\nexcept FileExistsError:\n    open('data/a.txt').read()",
        edit("data/a.txt"),
        "`data/a.txt` changed",
    ),
    # What cannot be traced.
    "address with a password": Case(
        "import pyarrow.csv\ntry:\n"
        "    pyarrow.csv.read_csv('https://user:secret@localhost:1/x.csv')\n"
        "except OSError:\n    pass",
        keep,
        f"{UNTRACED}: `https://localhost:1` (cell 1)",
    ),
    "another program": Case("!git --version", keep, f"{UNTRACED}: `git` (cell 1)"),
    "another program in subprocess": Case(
        "import subprocess\nsubprocess.run(['perl', '-e', '1'])", keep, f"{UNTRACED}: `perl`"
    ),
    "connection": Case(
        "import socket\ntry:\n    socket.create_connection(('127.0.0.1', 9))\n"
        "except OSError:\n    pass",
        keep,
        f"{UNTRACED}: `127.0.0.1:9` (cell 1)",
    ),
    "isolated Python": Case(
        "import subprocess, sys\nsubprocess.run([sys.executable, '-I', '-c', '1'], check=True)",
        keep,
        UNTRACED,
    ),
    "Python without the environment": Case(
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', '1'], env={}, check=True)",
        keep,
        UNTRACED,
    ),
    "database server": Case(
        "import sqlalchemy\ntry:\n    sqlalchemy.create_engine('postgresql://host/db')\n"
        "except ImportError:\n    pass",
        keep,
        f"{UNTRACED}: `postgresql database` (cell 1)",
    ),
    # Files outside of the project and hidden files.
    "file outside of the project": Case(
        "open('../outside.txt').read()",
        lambda home: edit("outside.txt", "changed")(home.parent),
        "`{home}/outside.txt` changed",
        prepare=lambda home: edit("outside.txt", "before")(home.parent),
    ),
    "hidden file": Case(
        "open('.settings').read()",
        edit(".settings"),
        "`.settings` changed",
        files={".settings": "a"},
    ),
    # Databases and libraries.
    "sqlite3": Case(
        "import sqlite3\nsqlite3.connect('sta' + 'te.db').execute('SELECT * FROM t').fetchall()",
        insert_row,
        "`state.db` changed",
        prepare=create_database,
    ),
    "sqlite3 with a URI": Case(
        "import sqlite3\nsqlite3.connect('file:sta' + 'te.db?mode=ro', uri=True).execute("
        "'SELECT * FROM t').fetchall()",
        insert_row,
        "`state.db` changed",
        prepare=create_database,
    ),
    "SQLAlchemy": Case(
        "import sqlalchemy\n"
        "with sqlalchemy.create_engine('sqlite:///sta' + 'te.db').connect() as connection:\n"
        "    connection.execute(sqlalchemy.text('SELECT * FROM t')).fetchall()",
        insert_row,
        "`state.db` changed",
        prepare=create_database,
    ),
    "DuckDB, path in SQL": Case(
        f"{ASSEMBLED_NAME}import duckdb\nduckdb.sql(f\"SELECT * FROM '{{folder}}/{{name}}.csv'\")",
        edit("tables/x.csv", "x\n1\n2\n"),
        "`tables/x.csv` changed",
    ),
    "DuckDB, pattern in SQL of a connection": Case(
        f"{ASSEMBLED_NAME}import duckdb\nwith duckdb.connect() as db:\n"
        "    db.execute(f\"SELECT * FROM read_csv('{folder}/*.csv')\").df()",
        edit("tables/y.csv", "x\n1\n2\n"),
        "`tables/*.csv` has",
    ),
    "DuckDB file": Case(
        "import duckdb\nwith duckdb.connect('d.' + 'duckdb', read_only=True) as db:\n"
        "    db.execute('SELECT * FROM t').fetchall()",
        insert_into_duckdb_file,
        "`d.duckdb` changed",
        prepare=create_duckdb_file,
    ),
    "pyarrow": Case(
        f"{ASSEMBLED_NAME}import pyarrow.parquet\n"
        "pyarrow.parquet.read_table(f'{folder}/{name}.parquet')",
        replace_parquet_file,
        "`tables/x.parquet` changed",
        prepare=create_parquet_files,
    ),
    "pandas through pyarrow": Case(
        f"{ASSEMBLED_NAME}import pandas\npandas.read_parquet(f'{{folder}}/{{name}}.parquet')",
        replace_parquet_file,
        "`tables/x.parquet` changed",
        prepare=create_parquet_files,
    ),
    "pyarrow with keywords": Case(
        f"{ASSEMBLED_NAME}import pyarrow.parquet\n"
        "pyarrow.parquet.read_table(columns=['x'], source=f'{folder}/{name}.parquet')",
        replace_parquet_file,
        "`tables/x.parquet` changed",
        prepare=create_parquet_files,
    ),
    "folder of a pyarrow dataset": Case(
        f"{ASSEMBLED_NAME}import pyarrow.dataset\n"
        "pyarrow.dataset.dataset(folder, format='csv').to_table()",
        edit("tables/y.csv", "x\n1\n2\n"),
        "`tables/**` has",
    ),
    # Changes that do not matter.
    "a file is touched": Case(
        "open('data/a.txt').read()", lambda home: os.utime(home / "data/a.txt", (10**9, 10**9))
    ),
    "a file that is only written": Case(
        "open('log.txt', 'a').write('line')", edit("log.txt", "other")
    ),
    "its own output is listed": Case(
        "import os\nos.makedirs('out', exist_ok=True)\nopen('out/x.txt', 'w').write('1')\n"
        "os.listdir('out'), os.listdir('.')",
        keep,
    ),
    "its own output is looked for": Case(
        "import os\nif not os.path.exists('out.txt'):\n    open('out.txt', 'w').write('1')", keep
    ),
    "its own table is read": Case(
        "import pandas\npandas.DataFrame({'x': [1]}).to_parquet('own.parquet')\n"
        "pandas.read_parquet('own.parquet')\nimport os\nos.listdir('.')",
        keep,
    ),
    "temporary files": Case(
        "import tempfile\nfrom pathlib import Path\nwith tempfile.TemporaryDirectory() as folder:\n"
        "    (Path(folder) / 'a').write_text('1')\n    list(Path(folder).iterdir())",
        keep,
    ),
    "compiled modules": Case("import os, part\nos.listdir('.')", keep),
    "a file beside those that are read": Case(
        "open('data/a.txt').read()", edit("data/z.txt", "new")
    ),
    "a table that a shell writes": Case(
        "!sort data/a.txt > sorted.txt\n!cp sorted.txt copied.txt\n!cat copied.txt", keep
    ),
    "a database that it writes itself": Case(
        "import sqlite3\ndatabase = sqlite3.connect('state.db')\n"
        "database.execute('INSERT INTO t VALUES (7)')\ndatabase.commit()",
        keep,
        prepare=create_database,
    ),
    "programs of the shell": Case("!ls data > /dev/null; mkdir -p made; echo $HOME", keep),
    "source of code that is shown": Case(
        "import inspect, traceback, part\ninspect.getsource(part)\ntry:\n    part.missing\n"
        "except AttributeError:\n    traceback.format_exc()",
        keep,
    ),
    "startup of a child process": Case(
        "import subprocess, sys\n"
        "child = subprocess.run([sys.executable, '-c', '1'], capture_output=True, check=True)\n"
        "assert not child.stderr, child.stderr",
        keep,
    ),
}


@dataclass
class ExecutedCase:
    """A case after its cell was executed."""

    home: Path
    error: str | None
    dependencies: StageDependencies


def write_project(home: Path, case: Case) -> None:
    for name, text in {**COMMON_FILES, **case.files}.items():
        edit(name, text)(home)
    if case.prepare is not None:
        case.prepare(home)
    notebook = new_notebook(cells=[new_code_cell(case.cell)])
    (home / "notebooks").mkdir()
    nbformat.write(notebook, home / "notebooks" / f"{STAGE}.ipynb")


@pytest.fixture(scope="module")
def executed_cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ExecutedCase]:
    """All cases, each executed in a project of its own."""
    folder = tmp_path_factory.mktemp("cases")
    jobs = []
    homes = {}
    for number, (name, case) in enumerate(CASES.items()):
        homes[name] = folder / str(number) / "project"
        write_project(homes[name], case)
        report = folder / f"{number}.json"
        jobs.append({"home": str(homes[name]), "cell": case.cell, "report": str(report)})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    # A file that is written in the same tick as the stage begins counts as written by the stage.
    while time.time_ns() <= (folder / "jobs.json").stat().st_ctime_ns:
        continue
    environment = make_clean_environment() | {"IPYTHONDIR": str(folder / "ipython")}
    process = subprocess.run(
        [sys.executable, "-m", "tests.support.traced_cells", str(folder / "jobs.json")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    executed = {}
    for number, name in enumerate(CASES):
        path = folder / f"{number}.json"
        assert path.exists(), f"{name}: {process.stderr[-3000:]}"
        result = json.loads(path.read_text())
        current = CurrentProject(loader.load_project(homes[name]))
        dependencies = collect_dependencies(current, STAGE, {}, result["used"], {})
        executed[name] = ExecutedCase(homes[name], result["error"], dependencies)
    return executed


def list_reasons(home: Path, dependencies: StageDependencies) -> list[str]:
    current = CurrentProject(loader.load_project(home))
    return list(find_differences(current, STAGE, {}, {}, dependencies))


@pytest.mark.parametrize("name", CASES)
def test_a_cell_is_executed_again_exactly_if_what_it_used_changed(
    executed_cases: dict[str, ExecutedCase], name: str
) -> None:
    case, executed = CASES[name], executed_cases[name]
    assert executed.error is None
    expected = case.reason.format(
        home=executed.home.parent, outside=executed.home.parent / "outside"
    )
    is_untraced = expected.startswith(UNTRACED)
    if not is_untraced:
        assert list_reasons(executed.home, executed.dependencies) == []
    case.change(executed.home)
    reasons = list_reasons(executed.home, executed.dependencies)
    if expected:
        assert any(reason.startswith(expected) for reason in reasons), reasons
    else:
        assert reasons == []


@pytest.mark.parametrize("setting", ["files: [data/a.txt]", "rerun: changed"])
def test_a_stage_with_declared_files_or_rerun_may_use_what_cannot_be_traced(
    executed_cases: dict[str, ExecutedCase], tmp_path: Path, setting: str
) -> None:
    executed = executed_cases["another program"]
    home = tmp_path / "project"
    shutil.copytree(executed.home, home)
    edit("mlops.yaml", f"name: tiny\nstages:\n  only: {{notebook: only.ipynb, {setting}}}\n")(home)
    reasons = list_reasons(home, executed.dependencies)
    assert not any(reason.startswith(UNTRACED) for reason in reasons)


def test_accepting_a_stage_covers_what_was_listed_looked_for_and_not_traced(
    executed_cases: dict[str, ExecutedCase],
) -> None:
    for name in ("os.listdir", "os.path.exists", "connection"):
        executed = executed_cases[name]
        CASES[name].change(executed.home)
        assert list_reasons(executed.home, executed.dependencies)
        current = CurrentProject(loader.load_project(executed.home))
        accepted = refresh_dependencies(current, STAGE, executed.dependencies)
        assert list_reasons(executed.home, accepted) == []


RUN_CELLS = {
    "script": "%run code.py",
    "listing": "import os\nos.listdir('data')",
    "pattern": "from pathlib import Path\nlist(Path('tables').glob('*.csv'))",
    "absence": "import os\nos.path.exists('flag')",
    "pool": (
        f"from concurrent.futures import ProcessPoolExecutor\n{READER}"
        f"with ProcessPoolExecutor(1) as pool:\n    list(pool.map(read, {NAMES}))"
    ),
    "child": "!{__import__('sys').executable} read.py data/b.txt",
    "shell": "%%bash\nwc -l < data/a.txt",
    "outside": "open('../outside.txt').read()",
    "table": (
        "import duckdb\nfolder = 'tables'\n"
        "duckdb.sql(f\"SELECT * FROM '{folder}/x.csv'\").fetchall()"
    ),
    "program": "!git --version",
}
EXPECTED_AFTER_CHANGES = {
    "script": "`part.py` changed: imported by script",
    "listing": "`data/` has `data/z.txt` now",
    "pattern": "`tables/*.csv` has `tables/y.csv` now",
    "absence": "`flag` exists now",
    "pool": "`data/b.txt` changed",
    "child": "`data/b.txt` changed",
    "shell": "`data/a.txt` changed",
    "outside": "`{outside}` changed",
    "table": "`tables/x.csv` changed",
    "program": f"{UNTRACED}: `git` (cell 1); declare `files:` or `rerun:`",
}
FAILING_CELLS = {
    "command": ("", "!exit 3", "3"),
    "output": ("", "lines = !exit 3", "3"),
    "bash": ("", "%%bash\nexit 3", "3"),
    "ignored_command": (", shell_errors: ignore", "!exit 3", ""),
    "ignored_bash": (", shell_errors: ignore", "%%bash\nexit 3", ""),
}
BACKGROUND_CELLS = {
    "thread": (
        "import threading\nthread = threading.Thread(target=lambda: 1 / 0, name='worker')\n"
        "thread.start()\nthread.join()",
        "exception in thread worker: ZeroDivisionError: division by zero (cell 1)",
    ),
    "secret": (
        "import os, threading\ndef fail():\n    raise ValueError(os.environ['ROUTE_KEY'])\n"
        "thread = threading.Thread(target=fail, name='worker')\nthread.start()\nthread.join()",
        "exception in thread worker: ValueError: •••ROUTE_KEY••• (cell 1)",
    ),
    "task": (
        "import asyncio\nasync def fail():\n    raise ValueError('lost')\n"
        "task = asyncio.create_task(fail())\nawait asyncio.wait([task])",
        "exception in a task: ValueError: lost (cell 1)",
    ),
    "executor": (
        "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(1) as pool:\n"
        "    pool.submit(lambda: {}['key'])",
        "exception in an executor: KeyError: 'key' (cell 1)",
    ),
}


def list_chain_cells() -> dict[str, tuple[str, str]]:
    """Return the settings and the cell of each stage of the chain."""
    stages = {name: ("", cell) for name, cell in RUN_CELLS.items()}
    stages |= {name: (setting, cell) for name, (setting, cell, _) in FAILING_CELLS.items()}
    stages |= {name: ("", cell) for name, (cell, _) in BACKGROUND_CELLS.items()}
    return stages


@dataclass
class FinishedRun:
    """A chain with a stage for each kind of dependency, after a run."""

    home: Path
    manifest: RunManifest


@pytest.fixture(scope="module")
def finished_run(
    copy_mlflow_store: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> FinishedRun:
    """The chain after one run."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "project").mkdir()
    home = copy_mlflow_store(folder / "project")
    for name, text in COMMON_FILES.items():
        edit(name, text)(home)
    edit("outside.txt", "before")(folder)
    lines = []
    for name, (setting, cell) in list_chain_cells().items():
        lines.append(f"  {name}: {{notebook: {name}.ipynb{setting}}}\n")
        nbformat.write(
            new_notebook(cells=[new_code_cell(cell)]), home / "notebooks" / f"{name}.ipynb"
        )
    edit("mlops.yaml", "name: tiny\nsecrets: [ROUTE_KEY]\nstages:\n" + "".join(lines))(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROUTE_KEY", "key-of-the-route")
        return FinishedRun(home, run_chain(home))


def run_chain(home: Path) -> RunManifest:
    project = loader.load_project(home)
    return runner.run_pipeline(
        project, runner.select_stages(project), {}, lambda text, transient=False: None
    )


def plan_chain(home: Path) -> dict[str, PlannedStage]:
    project = loader.load_project(home)
    chosen = runner.select_stages(project)
    values = {stage: runner.resolve_stage_values(project, stage, {}) for stage in chosen}
    return {planned.stage: planned for planned in plan_stages(project, chosen, values)}


def test_failing_shell_commands_fail_the_stage_unless_they_are_ignored(
    finished_run: FinishedRun,
) -> None:
    for name, (_, _, exit_status) in FAILING_CELLS.items():
        entry = finished_run.manifest.stages[name]
        if not exit_status:
            assert entry.status == "succeeded", entry.error_message
            continue
        assert entry.status == "failed"
        assert f"exit status {exit_status}" in entry.error_message
        assert f"stages.{name}.shell_errors: ignore" in entry.error_message


def test_exceptions_outside_of_the_cells_are_notes_on_the_stage(finished_run: FinishedRun) -> None:
    for name, (_, note) in BACKGROUND_CELLS.items():
        entry = finished_run.manifest.stages[name]
        assert entry.status == "succeeded", entry.error_message
        assert entry.notes == [note]
        assert note in entry.summary


def test_plan_after_a_run_names_what_changed_and_what_cannot_be_traced(
    finished_run: FinishedRun,
) -> None:
    home = finished_run.home
    for name in RUN_CELLS:
        entry = finished_run.manifest.stages[name]
        assert entry.status == "succeeded", entry.error_message
    assert finished_run.manifest.stages["program"].notes == [EXPECTED_AFTER_CHANGES["program"]]
    unchanged = plan_chain(home)
    for name in set(RUN_CELLS) - {"program"}:
        assert unchanged[name].action == "skip", unchanged[name]
    for change in (
        edit("part.py", "VALUE = 2\n"),
        edit("data/z.txt"),
        edit("tables/y.csv"),
        edit("flag"),
        edit("data/a.txt"),
        edit("data/b.txt"),
        edit("tables/x.csv", "x\n1\n2\n"),
    ):
        change(home)
    edit("outside.txt", "after")(home.parent)
    changed = plan_chain(home)
    for name, expected in EXPECTED_AFTER_CHANGES.items():
        assert changed[name].action == "run"
        assert expected.format(outside=home.parent / "outside.txt") in changed[name].reasons
