"""Record the numbers that a project produces, and compare two such records to the last digit.

    python evidence/record_numbers.py record PROJECT OUT.json   # after `mlops run` or `mlops watch`
    python evidence/record_numbers.py compare BEFORE.json AFTER.json

Reads run folders, the project's database and the MLflow store directly, without importing the
package, so that one script serves every version of it. Recorded are numbers, identifiers and
statuses; texts, run names, clock times and durations are left out. Names of artifacts, columns and
settings may change between versions, so values are compared in their order, not by their names.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

# Artifacts whose content depends on the clock, on the machine or on texts alone.
SKIPPED_ARTIFACTS = {"profile", "card", "card_text", "version", "promotion", "changes"}
# Keys of JSON artifacts that hold durations, clock times or hashes of texts.
# Earlier versions stored no schema version.
SKIPPED_KEYS = {
    "seconds",
    "duration",
    "started",
    "ended",
    "at",
    "max_seconds",
    "stopped_by_clock",
    "schema_version",
    "scheme",
}
RENAMED_ARTIFACTS = {
    "judged_scores": "held_out_scores",
    "realised": "realized_performance",  # stored by earlier versions
}


def list_numbers(value: Any) -> list[float]:
    """Numbers of a JSON value in the order in which they stand."""
    if isinstance(value, bool):
        return [float(value)]
    if isinstance(value, (int, float)):
        return [value]
    numbers: list[float] = []
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in SKIPPED_KEYS:
                numbers.extend(list_numbers(item))
    elif isinstance(value, list):
        for item in value:
            numbers.extend(list_numbers(item))
    return numbers


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def hash_texts(texts: list[str]) -> str:
    """One hash of many texts."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def describe_table(path: Path) -> dict[str, Any]:
    """Shape of a Parquet table, and a hash of each numeric column in its order."""
    frame = pd.read_parquet(path)
    hashes = []
    for name in frame.columns:
        series = frame[name]
        if name == "model_version" or not pd.api.types.is_numeric_dtype(series):
            continue
        hashes.append(hash_texts([repr(value) for value in series.tolist()]))
    return {"rows": len(frame), "numeric_columns": hashes}


def describe_artifacts(run: Path) -> dict[str, Any]:
    """Numbers of each artifact of a run, by name."""
    described: dict[str, Any] = {}
    for path in sorted((run / "artifacts").glob("*")):
        name = RENAMED_ARTIFACTS.get(path.stem, path.stem)
        if name in SKIPPED_ARTIFACTS:
            continue
        if path.suffix == ".json":
            described[name] = list_numbers(read_json(path))
        elif path.suffix == ".parquet" or path.is_dir():
            described[name] = describe_table(path)
    return described


def describe_runs(project: Path) -> list[dict[str, Any]]:
    """Status, logged numbers and artifacts of each run, in the order in which they began."""
    runs = []
    for manifest_file in sorted((project / "reports").glob("*/manifest.json")):
        manifest = read_json(manifest_file)
        stages = {}
        for name, entry in manifest["stages"].items():
            logged = {
                key: value
                for key, value in (entry.get("logged") or {}).items()
                if key not in SKIPPED_KEYS
            }
            stages[name] = {"status": entry["status"], "logged": list_numbers(logged)}
        runs.append(
            {
                "status": manifest["status"],
                "as_of": manifest["as_of"],
                "stages": stages,
                "artifacts": describe_artifacts(manifest_file.parent),
            }
        )
    return runs


def read_rows(database: Path, query: str) -> list[list[Any]]:
    """Return the rows of a query; none where the table is missing."""
    if not database.exists():
        return []
    with closing(sqlite3.connect(database)) as connection:
        try:
            return [list(row) for row in connection.execute(query)]
        except sqlite3.OperationalError:
            return []


def describe_models(project: Path) -> list[list[Any]]:
    """Version, model hash, threshold and review outcome of each registered version."""
    store = project / ".mlops" / "mlflow.db"
    files = [store] if store.exists() else sorted((project / ".mlops").rglob("*.db"))
    for file in files:
        tags: dict[int, dict[str, str]] = {}
        query = "SELECT version, key, value FROM model_version_tags"
        for version, key, value in read_rows(file, query):
            tags.setdefault(version, {})[key] = value
        if tags:
            return [
                [
                    version,
                    values.get("model_hash"),
                    values.get("threshold"),
                    values.get("review"),
                    values.get("features"),
                ]
                for version, values in sorted(tags.items())
            ]
    return []


def describe_database(project: Path) -> dict[str, Any]:
    """Promotions, decisions, predictions, labels, windows and incidents of a project."""
    database = project / ".mlops" / "mlops.db"
    predictions = read_rows(database, "SELECT id, score, decision FROM predictions ORDER BY id")
    labels = read_rows(
        database, "SELECT prediction, value, known, counts FROM labels ORDER BY prediction, id"
    )
    windows = []
    query = 'SELECT start, "end", version, looked, settled FROM windows ORDER BY start'
    for start, end, version, looked, settled in read_rows(database, query):
        numbers = [list_numbers(json.loads(text)) for text in (looked, settled) if text]
        windows.append([start, end, version, numbers])
    return {
        "promotions": read_rows(
            database, "SELECT number, version, model_hash, before FROM promotions ORDER BY number"
        ),
        "opinions": read_rows(database, "SELECT version, model_hash, word FROM opinions"),
        "predictions": [len(predictions), hash_texts([repr(row) for row in predictions])],
        "labels": [len(labels), hash_texts([repr(row) for row in labels])],
        "windows": windows,
        "incidents": read_rows(
            database,
            "SELECT cause, severity, opened, updated, windows, closed FROM incidents ORDER BY id",
        ),
        "retrainings": read_rows(
            database, "SELECT moment, action, state FROM retrainings ORDER BY moment, id"
        ),
    }


def record_project(project: Path) -> dict[str, Any]:
    """Everything that is compared of a project."""
    return {
        "runs": describe_runs(project),
        "models": describe_models(project),
        "database": describe_database(project),
    }


def find_differences(before: Any, after: Any, where: str = "") -> list[str]:
    """Places at which two records differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        differences = []
        for key in sorted({*before, *after}):
            if key not in before or key not in after:
                side = "before" if key in before else "after"
                differences.append(f"{where}/{key}: only {side}")
                continue
            differences.extend(find_differences(before[key], after[key], f"{where}/{key}"))
        return differences
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        differences = []
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            differences.extend(find_differences(old, new, f"{where}[{index}]"))
        return differences
    if before != after:
        return [f"{where}: {str(before)[:300]} → {str(after)[:300]}"]
    return []


def main() -> int:
    """Record or compare; exit code 1 where two records differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["record", "compare"])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "record":
        recorded = record_project(arguments.first)
        arguments.second.write_text(json.dumps(recorded, indent=1, default=str) + "\n")
        runs = recorded["runs"]
        print(f"{len(runs)} runs, {len(recorded['models'])} model versions recorded")
        return 0
    differences = find_differences(read_json(arguments.first), read_json(arguments.second))
    for line in differences:
        print(line)
    print(f"{len(differences)} differences")
    return int(bool(differences))


if __name__ == "__main__":
    raise SystemExit(main())
