"""A project with a registry and stored runs, and a server that shows it and takes decisions."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator

import nbformat
import pytest
from nbformat import v4

from mlops_kit.db.approvals import list_approvals
from mlops_kit.project.loader import Project
from mlops_kit.registry import registration, store
from tests.support import sample_runs
from tests.support.environment import ROOT, make_clean_environment
from tests.support.mlflow_stores import write_empty_store

SETTINGS = """
stages:
  deploy: {writes: [promotion]}
people: {approvers: [ann, bob, carl], operators: [carl], four_eyes: true}
dashboard:
  identity_provider: identity_provider.HeaderIdentityProvider
  port: 0
  ready_kernels: 1
  base_url: /churn/
"""
DEPLOY_CODE = """from mlops_kit.stages import deploy, open_stage

stage = open_stage("deploy", seed=seed)
promotion, gate = deploy.promote_if_approved(stage, stage.read("version"))
stage.write("promotion", promotion.to_dict(), record=True)
stage.hand_over(promotion.sentence)"""
LIVE_WIDGET_CODE = """import ipywidgets

button = ipywidgets.Button(description="press")
label = ipywidgets.Label("not yet")
button.on_click(lambda _: setattr(label, "value", "pressed"))
ipywidgets.VBox([button, label])"""
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
TAGS = {
    "features": "[]",
    "threshold": "0.5",
    "sample": "0",
    "as_of": "None",
    "judged": "{}",  # the tag's name in the registry
    "author": "bob",
    "review": "passed",
    "sha256": "s",
    "uri": "file:///nowhere",
}


@pytest.fixture(scope="module")
def registered_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose registry knows versions 1 and 2; its deploy stage only promotes."""
    home = tmp_path_factory.mktemp("dashboards") / "home"
    project = sample_runs.make_project(home, ("1", "2"), SETTINGS)
    write_empty_store(home)
    notebooks = project.root / "notebooks"
    dashboards = notebooks / "dashboards"
    shutil.copytree(ROOT / "notebooks" / "dashboards", dashboards)
    parameters = v4.new_code_cell("seed: int = 0  # Seed.", metadata={"tags": ["parameters"]})
    deploy = v4.new_notebook(cells=[parameters, v4.new_code_cell(DEPLOY_CODE)])
    nbformat.write(deploy, notebooks / "05_deploy.ipynb")
    own_page = v4.new_notebook(
        cells=[
            v4.new_markdown_cell("# The project's own page"),
            v4.new_code_cell(LIVE_WIDGET_CODE),
        ],
        metadata={"kernelspec": KERNEL},
    )
    nbformat.write(own_page, dashboards / "own.ipynb")
    (project.root / "t.csv").write_text("scheduled,late\n2013-06-01T06:00,1\n")
    with store.connect_mlflow(project) as client:
        for number in ("1", "2"):
            hashes = {"model_hash": f"m{number}", "evidence_hash": f"e{number}"}
            registration.create_version(client, project, TAGS["uri"], TAGS | hashes)
    sample_runs.promote(project, "1")
    return project


@pytest.fixture(scope="module")
def server_address(registered_project: Project) -> Iterator[str]:
    """The address of a server process, with its path, started from the command line."""
    environment = make_clean_environment() | {
        "PYTHONPATH": str(ROOT / "tests" / "support"),
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-m", "mlops_kit.cli", "dashboard", "--no-browser"]
    command += ["--project", str(registered_project.root)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = ""
        try:
            for line in process.stdout:
                if line.strip().endswith("/review"):
                    address = line.strip().removesuffix("/review")
                    break
            yield address
        finally:
            process.terminate()


def get_last_decision(project: Project) -> tuple[str, str, str]:
    """Return the outcome, the person and the reason of the last decision."""
    approval = list_approvals(project)[0]
    return approval.outcome, approval.actor, approval.reason
