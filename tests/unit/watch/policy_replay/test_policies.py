"""Policies are sections of mlops.yaml: built in, or files that are validated like it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from mlops_kit.core.errors import KitError
from mlops_kit.project import loader
from mlops_kit.watch.policy_replay.policies import load_policies

YAML = """
name: tiny
source: t.csv
target: y
task: regression
time: at
retrain: {min_labels: 50, cost: 20, value_per_decision: 0.5}
"""


@pytest.fixture
def project(tmp_path: Path) -> loader.Project:
    (tmp_path / "mlops.yaml").write_text(YAML)
    return loader.load_project(tmp_path)


def test_without_names_all_built_in_policies_are_compared(project: loader.Project) -> None:
    policies = load_policies(project)
    names = [policy.name for policy in policies]
    assert names == ["static", "scheduled", "drift", "performance", "default"]
    reasons = {p.name: p.project.config.retrain.when.reason_names for p in policies}
    assert reasons["drift"] == ["drift"]
    assert reasons["performance"] == ["performance_drop"]
    assert policies[0].project.config.retrain.max_age is None
    assert policies[1].project.config.retrain.max_age == timedelta(days=30)


def test_the_guards_of_the_project_stay_in_built_in_policies(project: loader.Project) -> None:
    by_name = {policy.name: policy for policy in load_policies(project)}
    assert by_name["drift"].project.config.retrain.min_labels == 50
    assert by_name["default"].project.config.retrain == project.config.retrain


def test_a_schedule_names_its_days(project: loader.Project) -> None:
    policy = load_policies(project, ["scheduled:14d"])[0]
    assert policy.name == "scheduled:14d"
    assert policy.project.config.retrain.max_age == timedelta(days=14)
    with pytest.raises(KitError, match="'often' is not a duration"):
        load_policies(project, ["scheduled:often"])


def test_a_file_has_the_keys_of_retrain_and_keeps_the_costs(
    project: loader.Project, tmp_path: Path
) -> None:
    file = tmp_path / "monthly.yaml"
    file.write_text("max_age: 28d\nwhen: {any: [age, performance_drop]}\n")
    policies = load_policies(project, [str(file)])
    assert [policy.name for policy in policies] == ["monthly", "default", "static"]
    section = policies[0].project.config.retrain
    assert section.max_age == timedelta(days=28)
    assert section.min_labels == 500  # not stated, so the default and not that of the project
    assert section.cost == 20
    pasted = yaml.safe_load(policies[0].to_yaml())
    assert project.with_values("t", **pasted).config.retrain == section


def test_a_mistake_in_a_file_names_the_file_and_the_setting(
    project: loader.Project, tmp_path: Path
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("max_agee: 28d\n")
    with pytest.raises(KitError, match=r"(?s)bad\.yaml has a mistake.*max_agee"):
        load_policies(project, [str(file)])
    file.write_text("- a list\n")
    with pytest.raises(KitError, match="contains a list instead of keys"):
        load_policies(project, [str(file)])


def test_an_unknown_name_lists_the_policies(project: loader.Project) -> None:
    with pytest.raises(KitError, match=r"(?s)unknown policy 'statik'.*'static'"):
        load_policies(project, ["statik"])
    with pytest.raises(KitError, match=r"no policy file 'none\.yaml'"):
        load_policies(project, ["none.yaml"])


def test_two_files_of_one_name_are_refused(project: loader.Project, tmp_path: Path) -> None:
    for folder, days in (("a", 10), ("b", 20)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.yaml").write_text(f"max_age: {days}d\n")
    files = [str(tmp_path / folder / "mine.yaml") for folder in ("a", "b")]
    with pytest.raises(KitError, match="two policies have the name 'mine'"):
        load_policies(project, files)
