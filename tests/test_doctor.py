"""The doctor: each check finds its fault, names it and says what to do; it changes nothing."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from mlops_kit.cli import doctor
from mlops_kit.core import resources
from mlops_kit.core.errors import KitError

YAML = "name: tiny\nsource: t.csv\ntarget: y\ntask: regression\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "mlops.yaml").write_text(YAML)
    (folder / "t.csv").write_text("x,y\n1,2\n")
    return folder


def installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *needs: str, python: str = ">=3.11"
) -> None:
    """Put a mlops-kit with other needs before the installed one, as a wheel's own metadata say it."""
    facts = folder / "site" / "mlops_kit-9.dist-info"
    facts.mkdir(parents=True)
    lines = [
        "Metadata-Version: 2.4",
        "Name: mlops-kit",
        "Version: 9",
        f"Requires-Python: {python}",
        *(f"Requires-Dist: {n}" for n in needs),
    ]
    (facts / "METADATA").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(facts.parent))


def told(home: Path) -> dict[str, doctor.DoctorFinding]:
    return {f.check_name: f for f in doctor.run_doctor_checks(str(home))}


def test_all_is_well_here_and_nothing_is_made(home: Path) -> None:
    found = told(home)
    assert all(f.passed and f.sentence for f in found.values())
    assert list(found) == [*doctor.MACHINE_CHECKS, *doctor.PROJECT_CHECKS]
    assert sorted(p.name for p in home.iterdir()) == ["mlops.yaml", "t.csv"]


def test_the_machine_is_looked_at_without_a_project(tmp_path: Path) -> None:
    found = told(tmp_path)
    assert list(found) == [*doctor.MACHINE_CHECKS, "mlops.yaml"]
    assert not found["mlops.yaml"].passed
    assert "--project" in found["mlops.yaml"].sentence


def test_a_python_that_is_not_allowed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, monkeypatch, python=">=3.99")
    with pytest.raises(KitError, match="Python is 3") as error:
        doctor.check_python()
    assert error.value.expected == ">=3.99"
    assert error.value.hint


def test_each_package_that_does_not_fit_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(
        tmp_path,
        monkeypatch,
        "pandas>=99",
        "numpy>=1",
        "nobody-has-this",
        "never-asked>1; extra == 'dev'",
    )
    with pytest.raises(
        KitError,
        match=r"pandas is [\d.]+ \(needs >=99\); nobody-has-this is missing \(needs any version\)\n",
    ) as error:
        doctor.check_packages()
    assert "requirements.lock" in error.value.hint
    assert "never-asked" not in str(error.value)


def test_a_python_without_a_kernel_is_worded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(KitError, match="has no ipykernel") as error:
        doctor.check_kernel()
    assert error.value.hint == "pip install ipykernel"


def test_a_notebook_without_the_parameters_tag_is_named_with_its_cure(home: Path) -> None:
    shutil.copytree(resources.find_resource_folder("notebooks"), home / "notebooks")
    book = home / "notebooks" / "02_prepare.ipynb"
    text = json.loads(book.read_text())
    for cell in text["cells"]:
        cell["metadata"].pop("tags", None)
    book.write_text(json.dumps(text))
    (home / "notebooks" / "05_deploy.ipynb").write_text("no notebook")
    found = told(home)["notebooks"]
    assert not found.passed
    assert "02_prepare.ipynb has no cell tagged 'parameters'" in found.sentence
    assert "add the tag in JupyterLab" in found.sentence
    assert "05_deploy.ipynb is not a notebook" in found.sentence


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (None, "'t.csv' does not exist"),
        ("x,z\n1,2\n", "column 'y' is not in the source"),
        ("x,y\n", "has no rows"),
    ],
)
def test_a_source_that_does_not_fit_is_worded(home: Path, rows: str | None, fault: str) -> None:
    (home / "t.csv").write_text(rows) if rows else (home / "t.csv").unlink()
    found = told(home)["source"]
    assert not found.passed
    assert fault in found.sentence
    assert "Hint: " in found.sentence


def test_a_store_that_is_no_store_is_worded(home: Path) -> None:
    (home / ".mlops").mkdir()
    (home / ".mlops" / "mlflow.db").write_text(
        "no database at all, and long enough to be taken for one" * 20
    )
    found = told(home)["store"]
    assert not found.passed
    assert "does not answer" in found.sentence
    assert "'tracking' in mlops.yaml" in found.sentence


def test_too_little_room_is_worded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MIN_FREE_DISK_GIB", 10**9)
    found = told(home)["disk"]
    assert not found.passed
    assert "GiB free" in found.sentence
    assert "remove old runs under reports/" in found.sentence


def test_a_folder_that_cannot_be_written_is_worded(home: Path) -> None:
    (home / "mlops.yaml").write_text(
        YAML + "reports: t.csv/deep\ntracking: sqlite:///t.csv/mlflow.db\n"
    )
    found = told(home)
    assert all(
        not found[name].passed and "t.csv' cannot be written" in found[name].sentence
        for name in ("store", "disk")
    )
