"""The requirement of a new project names where mlops-kit was installed from."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import pytest

from mlops_kit import __version__
from mlops_kit.pipeline.scaffold import package_origin
from mlops_kit.pipeline.scaffold.package_origin import PackageRequirement


@pytest.mark.parametrize(
    ("direct_url", "requirement"),
    [
        (None, f"mlops-kit[all]=={__version__}"),
        (
            {"url": "https://example.com/kit", "vcs_info": {"vcs": "git", "commit_id": "1f2e"}},
            "mlops-kit[all] @ git+https://example.com/kit@1f2e",
        ),
        (
            {
                "url": "https://example.com/kit",
                "vcs_info": {"vcs": "git", "commit_id": "1f2e"},
                "subdirectory": "python",
            },
            "mlops-kit[all] @ git+https://example.com/kit@1f2e#subdirectory=python",
        ),
        (
            {"url": "https://example.com/mlops_kit-0.1.0-py3-none-any.whl", "archive_info": {}},
            "mlops-kit[all] @ https://example.com/mlops_kit-0.1.0-py3-none-any.whl",
        ),
    ],
)
def test_origin_that_others_reach_is_named_without_a_note(
    direct_url: dict[str, Any] | None, requirement: str
) -> None:
    assert package_origin.build_package_requirement(direct_url) == (requirement, "")


@pytest.mark.parametrize(
    "direct_url",
    [
        {"url": "file:///home/ada/mlops-kit", "dir_info": {"editable": True}},
        {"url": "file:///home/ada/mlops_kit-0.1.0-py3-none-any.whl", "archive_info": {}},
        {"url": "file:///home/ada/kit", "vcs_info": {"vcs": "git", "commit_id": "1f2e"}},
    ],
)
def test_origin_on_this_machine_is_named_with_a_note(direct_url: dict[str, Any]) -> None:
    requirement = package_origin.build_package_requirement(direct_url)
    assert direct_url["url"] in requirement.line
    assert requirement.note.startswith("mlops-kit was installed from this machine")
    assert "set package in mlops.yaml" in requirement.note


def test_setting_of_the_project_comes_first() -> None:
    requirement = package_origin.find_package_requirement("wheels/mlops_kit-1-py3-none-any.whl")
    assert requirement == PackageRequirement("wheels/mlops_kit-1-py3-none-any.whl", "")


def test_checkout_on_the_import_path_is_named_as_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", find_nothing)
    requirement = package_origin.find_package_requirement()
    assert requirement.line.startswith("mlops-kit[all] @ file:///")
    assert requirement.note
