"""A project with a registry, whose runs are told and not made, and a server that shows it and decides."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from mlops_kit.db import approvals
from mlops_kit.project import loader
from mlops_kit.registry import registration, store
from tests.dashboards import story

HERE = Path(__file__).parent
MORE = """
stages:
  deploy: {writes: [promotion]}
people: {approvers: [ann, bob, carl], operators: [carl], four_eyes: true}
dashboard: {identity: visitors.Named, port: 0, ready: 1}
"""
DEPLOYS = """from mlops_kit.stages import deploy, open_stage

stage = open_stage("deploy", seed=seed)
promotion, gate = deploy.promote_if_approved(stage, stage.read("version"))
stage.write("promotion", promotion.to_dict(), record=True)
stage.hand_over(promotion.sentence)"""


LIVE = """import ipywidgets

press, said = ipywidgets.Button(description="press"), ipywidgets.Label("not yet")
press.on_click(lambda _: setattr(said, "value", "pressed"))
ipywidgets.VBox([press, said])"""


@pytest.fixture(scope="session")
def registered(tmp_path_factory: pytest.TempPathFactory) -> loader.Project:
    """The same with a registry that knows the two as versions 1 and 2; its deploy stage only promotes."""
    project = story.make(tmp_path_factory.mktemp("dash") / "home", ("1", "2"), MORE)
    book = v4.new_notebook(
        cells=[
            v4.new_code_cell("seed: int = 0  # Seed.", metadata={"tags": ["parameters"]}),
            v4.new_code_cell(DEPLOYS),
        ]
    )
    own = v4.new_notebook(
        cells=[v4.new_markdown_cell("# Of one's own"), v4.new_code_cell(LIVE)],
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
        },
    )
    shutil.copytree(
        HERE.parents[1] / "notebooks" / "dashboards", project.root / "notebooks" / "dashboards"
    )
    nbformat.write(own, project.root / "notebooks" / "dashboards" / "own.ipynb")
    (project.root / "t.csv").write_text("scheduled,late\n2013-06-01T06:00,1\n")
    nbformat.write(book, project.root / "notebooks" / "05_deploy.ipynb")
    facts = {
        "features": "[]",
        "threshold": "0.5",
        "sample": "0",
        "as_of": "None",
        "judged": "{}",
        "author": "bob",
        "review": "passed",
        "sha256": "s",
        "uri": "file:///nowhere",
    }
    with store.connect_mlflow(project) as client:
        for number in ("1", "2"):
            registration.create_version(
                client,
                project,
                facts["uri"],
                {**facts, "model_hash": f"m{number}", "evidence_hash": f"e{number}"},
            )
    story.serve(project, "1")
    return project


@pytest.fixture(scope="session")
def address(registered: loader.Project) -> Iterator[str]:
    """Where the dashboards of the registered project answer: a server process of its own, as the command line starts it."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "MLFLOW_"))},
        "PYTHONPATH": str(HERE),
        "PYTHONUNBUFFERED": "1",
    }
    command = [
        sys.executable,
        "-m",
        "mlops_kit.cli",
        "dashboard",
        "--no-browser",
        "--project",
        str(registered.root),
    ]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = iter(process.stdout.readline, "")
        yield next(
            line.strip().removesuffix("/review")
            for line in said
            if line.strip().endswith("/review")
        )
        process.terminate()


def last(project: loader.Project) -> tuple[str, str, str]:
    """The last word that was said: word, who, why."""
    found = approvals.list_approvals(project)[0]
    return found.outcome, found.actor, found.reason
