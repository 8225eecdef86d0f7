"""Creating a project: what is written, with its reasons; nothing is left of what fails."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

import mlops_kit
from mlops_kit.core.errors import KitError
from mlops_kit.data import contract, contract_validation, source
from mlops_kit.data.detection import GivenSettings
from mlops_kit.pipeline.scaffold import create, origin, package_origin
from mlops_kit.project.loader import Project, load_project
from tests.unit.pipeline.scaffold.conftest import ROWS, write_visits


def draft(
    path: Path, *files: Path, target: str = "missed", **values: object
) -> create.ProjectDraft:
    request = create.ProjectRequest(path, [str(file) for file in files], target, **values)  # type: ignore[arg-type]
    return create.draft_project(request)


def test_settings_are_detected_and_valid(project: Project) -> None:
    config = project.config
    assert (config.name, config.target, config.task) == ("visits", "missed", "binary")
    assert (config.id, config.time) == (["visit_id"], None)
    assert sorted(config.excluded_columns) == ["fee", "unit"]
    assert config.source == "data/visits.csv"


def test_each_setting_has_its_reason_as_a_comment(project: Project) -> None:
    text = (project.root / "mlops.yaml").read_text()
    assert "# missed has the two values no and yes.\ntask: binary\n" in text
    assert "  # unit is general in all 400 rows.\n  - unit\n" in text
    assert "  # Check: fee alone ranks missed with AUC 1" in text
    assert "# visit_id is unique in 400 rows" in text
    assert "# Of no and yes, yes is the positive class.\npositive: 'yes'\n" in text
    assert "# - No column holds timestamps: rows are split at random.\n" in text


def test_contract_holds_for_the_data(project: Project) -> None:
    loaded = contract.load_contract(project.root / "contract.yaml")
    rows = source.read_source(project)
    report, accepted, _ = contract_validation.validate_rows_against_contract(rows, loaded, 0.05)
    assert loaded.unique == ["visit_id"]
    assert (len(accepted), report.is_broken) == (ROWS, False)


def test_files_of_a_project_are_complete_and_well_formed(project: Project) -> None:
    root = project.root
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert files == {
        ".gitattributes",
        ".github/workflows/tests.yml",
        ".gitignore",
        origin.ORIGIN_FILE,
        "README.md",
        "contract.yaml",
        "data/visits.csv",
        "mlops.yaml",
        "requirements.txt",
        "tests/test_project.py",
    }
    ast.parse((root / "tests/test_project.py").read_text())
    workflow = yaml.safe_load((root / ".github/workflows/tests.yml").read_text())
    assert workflow["jobs"]["tests"]["steps"][-1]["run"] == "pytest tests"
    readme = (root / "README.md").read_text()
    assert "mlops predict data/visits.csv" in readme
    assert "mlops watch" not in readme  # the table has no time
    assert "--sample" not in readme  # it would take all 400 rows
    requirements = (root / "requirements.txt").read_text()
    requirement = package_origin.find_package_requirement()
    assert requirements.splitlines()[-2:] == [requirement.line, "pytest>=8"]
    assert requirements.startswith("# mlops-kit was installed from this machine") is bool(
        requirement.note
    )
    for path in files:
        text = (root / path).read_text()
        assert "[[" not in text, path
        assert str(root.parent) not in text, path


def test_a_sample_is_proposed_where_it_reduces_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(create, "_MAX_SAMPLE_ROWS", ROWS - 1)
    root = create.write_project(draft(tmp_path / "visits", write_visits(tmp_path))).root
    readme = (root / "README.md").read_text()
    assert f"```bash\npip install -r requirements.txt\nmlops run --sample {ROWS - 1} " in readme
    assert "\nmlops run   " in readme


def test_the_record_of_the_template_has_its_version_and_files(project: Project) -> None:
    record = origin.read_origin(project.root)
    assert record.schema_version == 1
    assert record.files["mlops.yaml"].version == mlops_kit.__version__
    for path, original in record.files.items():
        assert original.text == (project.root / path).read_text()


def test_the_same_table_gives_the_same_project(tmp_path: Path) -> None:
    file = write_visits(tmp_path)
    first = create.write_project(draft(tmp_path / "a", file, name="visits")).root
    second = create.write_project(draft(tmp_path / "b", file, name="visits")).root
    for path in first.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (second / path.relative_to(first)).read_bytes()


def test_settings_that_are_given_are_kept(tmp_path: Path) -> None:
    request_draft = draft(
        tmp_path / "p", write_visits(tmp_path), given=GivenSettings(id_columns=[], time="")
    )
    config = create.write_project(request_draft).config
    assert (config.id, config.time) == ([], None)


@pytest.mark.parametrize(("copies_data", "is_copied"), [(None, True), (True, True), (False, False)])
def test_small_files_are_copied_unless_told_otherwise(
    tmp_path: Path, copies_data: bool | None, is_copied: bool
) -> None:
    file = write_visits(tmp_path)
    project = create.write_project(draft(tmp_path / "p", file, copies_data=copies_data))
    assert (project.root / "data" / "visits.csv").exists() is is_copied
    assert project.config.source == ("data/visits.csv" if is_copied else str(file))
    text = (project.root / "mlops.yaml").read_text()
    assert ("A copy of the file" if is_copied else "it was not copied") in text


def test_large_files_are_referenced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(create, "_MAX_COPIED_BYTES", 100)
    file = write_visits(tmp_path)
    assert create.write_project(draft(tmp_path / "p", file)).config.source == str(file)


def test_folder_with_content_is_refused_and_unchanged(tmp_path: Path) -> None:
    file = write_visits(tmp_path)
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "notes.txt").write_text("mine")
    with pytest.raises(KitError, match="exists and is not empty"):
        draft(tmp_path / "p", file)
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["notes.txt"]


def test_nothing_is_left_of_a_project_that_cannot_be_written(tmp_path: Path) -> None:
    file = write_visits(tmp_path)
    with pytest.raises(KitError, match="name"):
        create.write_project(draft(tmp_path / "p", file, name="not a name"))
    assert [path.name for path in tmp_path.iterdir()] == ["visits.csv"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target": "mised"}, "'missed'"),
        ({"given": GivenSettings(time="when")}, "no column 'when'"),
    ],
)
def test_a_column_that_does_not_exist_is_refused(
    tmp_path: Path, values: dict[str, object], message: str
) -> None:
    with pytest.raises(KitError, match=message):
        draft(tmp_path / "p", write_visits(tmp_path), **values)  # type: ignore[arg-type]


def test_column_names_and_values_that_yaml_would_change_are_quoted(tmp_path: Path) -> None:
    names = ["yes", "a: b", "- c", "1", "[[ d ]]", "# e"]
    frame = pd.DataFrame({name: range(ROWS) for name in names[1:]})
    frame[names[0]] = [0, 1] * (ROWS // 2)
    project = mlops_kit.new(frame, target="yes", path=tmp_path / "p").project
    assert project.config.target == "yes"
    assert project.config.id == ["a: b"]
    assert project.config.excluded_columns == ["1", "[[ d ]]", "# e"]  # repeat "- c"


def test_a_frame_becomes_a_project_that_is_open(tmp_path: Path) -> None:
    frame = pd.read_csv(write_visits(tmp_path))
    client = mlops_kit.new(frame, target="missed", path=tmp_path / "visits", id="visit_id")
    assert client.project.config.source == "data/table.parquet"
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "visits/data/table.parquet"), frame)


def test_several_files_are_joined_and_the_join_can_be_repeated(tmp_path: Path) -> None:
    visits = write_visits(tmp_path)
    clinics = tmp_path / "clinics.csv"
    clinics.write_text("clinic,beds\nnorth,20\nsouth,35\n")
    project = create.write_project(draft(tmp_path / "p", clinics, visits))
    table = pd.read_parquet(project.root / "data" / "table.parquet")
    assert len(table) == ROWS
    assert set(table["beds"]) == {20, 35}
    text = (project.root / "mlops.yaml").read_text()
    assert "joined by clinic, unique there; 100% of the rows have a match" in text.replace(
        "\n# ", " "
    )
    script = project.root / "data" / "build_table.py"
    stored = (project.root / "data" / "table.parquet").read_bytes()
    (project.root / "data" / "table.parquet").unlink()
    exec(compile(script.read_text(), str(script), "exec"), {"__file__": str(script)})
    assert (project.root / "data" / "table.parquet").read_bytes() == stored


def test_what_the_reader_decided_is_stated(tmp_path: Path) -> None:
    rows = [
        f"{1 + n % 12:02}/{1 + n % 7:02}/2024,{n % 90},{['no', 'yes'][n % 2]}" for n in range(ROWS)
    ]
    file = tmp_path / "visits.csv"
    file.write_text("\n".join(["visited,age,missed", *rows, "1,2,3,4,5", ""]))
    project = create.write_project(draft(tmp_path / "p", file))
    text = (project.root / "mlops.yaml").read_text().replace("\n# ", " ")
    assert "Check: visited holds dates as text: its dates have two readings" in text
    assert "1 of 401 rows (0.2%) cannot be read and are quarantined" in text
    assert "Check: visited has 84 distinct timestamps" in text
    dates = project.config.source.dates  # type: ignore[union-attr]
    assert list(dates) == ["visited"]
    assert source.read_source(project)["visited"].dtype.kind == "M"


def test_columns_of_lists_are_excluded(tmp_path: Path) -> None:
    frame = pd.read_csv(write_visits(tmp_path))
    frame["tags"] = [["a"], ["b"]] * (ROWS // 2)
    client = mlops_kit.new(frame, target="missed", path=tmp_path / "p")
    assert "tags" in client.project.config.excluded_columns


def test_an_origin_that_cannot_be_read_is_an_error(project: Project) -> None:
    (project.root / origin.ORIGIN_FILE).write_text(json.dumps({"schema_version": 99}))
    with pytest.raises(KitError, match="cannot be read"):
        origin.read_origin(project.root)


@pytest.mark.parametrize(
    ("folder", "name"),
    [("visits", "visits"), ("flat prices", "flat-prices"), ("2024", "project-2024")],
)
def test_project_is_named_after_its_folder(folder: str, name: str) -> None:
    assert create.make_project_name(Path(folder)) == name


def test_a_created_project_loads(created_project: Path) -> None:
    assert load_project(created_project).config.name == "visits"
