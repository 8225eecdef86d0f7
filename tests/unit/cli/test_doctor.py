"""mlops doctor: each check finds its problem, says what to do, and changes nothing."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from mlops_kit.cli import doctor
from mlops_kit.core import resources
from mlops_kit.core.errors import KitError
from mlops_kit.core.extras import EXTRAS
from mlops_kit.db import engine, schema

CONFIG = "name: tiny\nsource: t.csv\ntarget: y\ntask: regression\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A project of one row."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "mlops.yaml").write_text(CONFIG)
    (folder / "t.csv").write_text("x,y\n1,2\n")
    return folder


def install_other_version(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *requirements: str,
    python: str = ">=3.11",
) -> None:
    """Put the metadata of an mlops-kit with other requirements in front of the installed one."""
    metadata = folder / "site" / "mlops_kit-9.dist-info"
    metadata.mkdir(parents=True)
    lines = [
        "Metadata-Version: 2.4",
        "Name: mlops-kit",
        "Version: 9",
        f"Requires-Python: {python}",
        *(f"Requires-Dist: {requirement}" for requirement in requirements),
    ]
    (metadata / "METADATA").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(metadata.parent))


def run_checks(home: Path) -> dict[str, doctor.DoctorFinding]:
    """The findings of all checks by name."""
    return {finding.check_name: finding for finding in doctor.run_doctor_checks(str(home))}


def test_valid_project_passes_and_nothing_is_written(home: Path) -> None:
    findings = run_checks(home)
    assert all(finding.passed for finding in findings.values())
    assert all(finding.sentence for finding in findings.values())
    assert list(findings) == [*doctor.MACHINE_CHECKS, *doctor.PROJECT_CHECKS]
    assert sorted(path.name for path in home.iterdir()) == ["mlops.yaml", "t.csv"]


def test_broken_plugin_explains_why_a_name_in_the_settings_is_unknown(home: Path) -> None:
    (home / "my_sink.py").write_text("import no_such_library\n")
    with (home / "mlops.yaml").open("a") as file:
        file.write("plugins: [my_sink]\nalerts: {sinks: [pager]}\n")
    findings = run_checks(home)
    assert "the plugin 'my_sink' cannot be imported" in findings["plugins"].sentence
    settings = findings["mlops.yaml"].sentence
    assert settings.startswith("read without the plugins, whose names are unknown until they load")
    assert "alerts.sinks: 'pager' is not known" in settings


def test_reason_to_retrain_that_never_applies_is_found(home: Path) -> None:
    sentence = "if any of: performance_drop, concept_drift, confirmed_drift, incomplete_recovery"
    assert run_checks(home)["retraining"].sentence == sentence
    (home / "mlops.yaml").write_text(f"{CONFIG}retrain: {{when: {{any: [drift, age]}}}}\n")
    finding = run_checks(home)["retraining"]
    assert not finding.passed
    assert "retrain.when names age, which never applies without retrain.max_age" in finding.sentence
    (home / "mlops.yaml").write_text(
        f"{CONFIG}retrain: {{max_age: 90d, when: {{any: [drift, age]}}}}\n"
    )
    assert run_checks(home)["retraining"].sentence == "if 1 of: drift, age"


def test_machine_is_checked_without_a_project(tmp_path: Path) -> None:
    findings = run_checks(tmp_path)
    assert list(findings) == [*doctor.MACHINE_CHECKS, "mlops.yaml"]
    assert not findings["mlops.yaml"].passed
    assert "--project" in findings["mlops.yaml"].sentence


def test_unsupported_python_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_other_version(tmp_path, monkeypatch, python=">=3.99")
    with pytest.raises(KitError, match=r"Python 3[\d.]+ is not supported") as error:
        doctor.check_python()
    assert error.value.expected == ">=3.99"
    assert error.value.hint


def test_each_package_at_another_version_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = ["pandas>=99", "numpy>=1", "nobody-has-this", "not-required>1; extra == 'dev'"]
    install_other_version(tmp_path, monkeypatch, *requirements)
    message = (
        r"pandas is [\d.]+ \(requires >=99\); "
        r"nobody-has-this is missing \(requires any version\)\n"
    )
    with pytest.raises(KitError, match=message) as error:
        doctor.check_packages()
    assert "requirements.lock" in error.value.hint
    assert "not-required" not in str(error.value)


def test_installation_without_kernel_passes_and_says_what_would_bring_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [])
    assert (
        doctor.check_kernel() == 'none; running notebooks needs it: pip install "mlops-kit[train]"'
    )


def test_extras_are_listed_with_the_command_for_those_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = [f"pandas; extra == '{name}'" for name in EXTRAS]
    install_other_version(tmp_path, monkeypatch, *requirements, "nobody-has-this; extra == 'lab'")
    first_line, *lines = doctor.check_extras().splitlines()
    assert first_line == f"{len(EXTRAS) - 1} of {len(EXTRAS)} installed"
    assert "  serve: installed (the prediction endpoint, mlops serve)" in lines
    (lab_line,) = [line for line in lines if line.startswith("  lab: ")]
    assert lab_line.startswith(
        '  lab: pip install "mlops-kit[lab]" (new projects, mlops new; JupyterLab'
    )


def test_extra_at_another_version_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = [f"numpy>=1; extra == '{name}'" for name in EXTRAS]
    install_other_version(tmp_path, monkeypatch, *requirements, "pandas>=99; extra == 'serve'")
    with pytest.raises(KitError, match=r"pandas is [\d.]+ \(requires >=99\)"):
        doctor.check_extras()


def test_invalid_notebooks_are_all_reported(home: Path) -> None:
    shutil.copytree(resources.find_resource_folder("notebooks"), home / "notebooks")
    path = home / "notebooks" / "02_prepare.ipynb"
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            cell["source"] = ["seed: int ="]
    path.write_text(json.dumps(notebook))
    (home / "notebooks" / "05_deploy.ipynb").write_text("no notebook")
    finding = run_checks(home)["notebooks"]
    assert not finding.passed
    assert "02_prepare.ipynb: line 1 of the parameters cell is not Python" in finding.sentence
    assert "correct the line in JupyterLab" in finding.sentence
    assert "05_deploy.ipynb is not a notebook" in finding.sentence


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "'t.csv' does not exist"),
        ("x,z\n1,2\n", "column 'y' is not in the source"),
        ("x,y\n", "has no rows"),
    ],
)
def test_invalid_source_is_reported(home: Path, content: str | None, problem: str) -> None:
    if content is None:
        (home / "t.csv").unlink()
    else:
        (home / "t.csv").write_text(content)
    finding = run_checks(home)["source"]
    assert not finding.passed
    assert problem in finding.sentence
    assert "Hint: " in finding.sentence


def test_invalid_tracking_store_is_reported(home: Path) -> None:
    (home / ".mlops").mkdir()
    invalid = "not a database, but as long as the header of one" * 20
    (home / ".mlops" / "mlflow.db").write_text(invalid)
    finding = run_checks(home)["store"]
    assert not finding.passed
    assert "does not answer" in finding.sentence
    assert "'tracking' in mlops.yaml" in finding.sentence


def test_database_is_reported_with_its_revision_and_not_changed(home: Path) -> None:
    file = home / ".mlops" / "mlops.db"
    finding = run_checks(home)["database"]
    assert finding.passed
    assert "none yet at sqlite:///.mlops/mlops.db" in finding.sentence
    assert not file.parent.exists()

    engine.get_engine(f"sqlite:///{file}", file).dispose()
    finding = run_checks(home)["database"]
    assert (finding.passed, finding.sentence) == (True, f"schema revision {schema.HEAD_REVISION}")

    with closing(sqlite3.connect(file)) as database:
        database.execute(f"DROP TABLE {schema.VERSION_TABLE_NAME}")
        database.commit()
    content = file.read_bytes()
    finding = run_checks(home)["database"]
    assert finding.passed
    assert "schema revision not recorded; the next command" in finding.sentence
    assert file.read_bytes() == content

    engine.get_engine.cache_clear()
    engine.get_engine(f"sqlite:///{file}", file).dispose()
    (backup,) = file.parent.glob("mlops.db.backup-*")
    assert f"newest backup: {backup}" in run_checks(home)["database"].sentence


def test_database_of_a_newer_version_is_reported(home: Path) -> None:
    file = home / ".mlops" / "mlops.db"
    engine.get_engine(f"sqlite:///{file}", file).dispose()
    with closing(sqlite3.connect(file)) as database:
        database.execute(f"UPDATE {schema.VERSION_TABLE_NAME} SET version_num = '9999'")
        database.commit()
    finding = run_checks(home)["database"]
    assert not finding.passed
    assert "schema revision '9999', which this mlops-kit does not know" in finding.sentence
    assert "pip install --upgrade mlops-kit" in finding.sentence


def test_file_that_is_not_a_database_is_reported(home: Path) -> None:
    (home / "mlops.yaml").write_text(CONFIG + "database: sqlite:///t.csv\n")
    finding = run_checks(home)["database"]
    assert not finding.passed
    assert "cannot be opened: file is not a database" in finding.sentence
    assert (home / "t.csv").read_text() == "x,y\n1,2\n"


def test_too_little_disk_space_is_reported(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MIN_FREE_DISK_GIB", 10**9)
    finding = run_checks(home)["disk"]
    assert not finding.passed
    assert "GiB free" in finding.sentence
    assert "remove old runs in reports/" in finding.sentence


def test_folder_that_is_not_writable_is_reported(home: Path) -> None:
    settings = "reports: t.csv/deep\ntracking: sqlite:///t.csv/mlflow.db\n"
    (home / "mlops.yaml").write_text(CONFIG + settings)
    findings = run_checks(home)
    for name in ("store", "disk"):
        assert not findings[name].passed
        assert "t.csv' is not writable" in findings[name].sentence
