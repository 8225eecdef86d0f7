"""What is exported is whole, asks only for what there is, names secrets, and does not write over others' work."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from mlops_kit.cli import application
from mlops_kit.core import resources
from mlops_kit.core.errors import KitError
from mlops_kit.pipeline import export
from mlops_kit.project import loader

YAML = """
name: Tiny_table
source: {sql: select 1, url: "postgresql://me:${DB_PASSWORD}@db/x"}
target: late
task: binary
serve: {token_env: SERVE_TOKEN, port: 9000}
secrets: [API_KEY]
"""
NAMES = ["API_KEY", "SERVE_TOKEN", "DB_PASSWORD"]
APP = Path(application.__file__).parent / "deploy" / "app.py"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> loader.Project:
    """A project in a folder with an awkward name, whose secrets have values."""
    for name in NAMES:
        monkeypatch.setenv(name, f"value-of-{name.lower()}")
    folder = tmp_path / "50% it's"
    folder.mkdir()
    (folder / "mlops.yaml").write_text(YAML)
    return loader.load_project(folder)


def exported(project: loader.Project, target: str, **options: Any) -> list[Any]:
    """The documents of an exported YAML file."""
    return list(
        yaml.safe_load_all(
            export.export_schedule(project, target, image="here/tiny:1", **options).read_text()
        )
    )


def steps(workflow: dict[Any, Any]) -> Iterator[dict[str, Any]]:
    for job in workflow["jobs"].values():
        yield from job["steps"]


def commands(project: loader.Project, target: str) -> list[list[str]]:
    """The words of each ``mlops`` command in an exported file."""
    if target == "kubernetes":
        specs = [
            d["spec"].get("jobTemplate", d)["spec"]["template"]["spec"]
            for d in exported(project, target)
            if d["kind"] in {"CronJob", "Deployment"}
        ]
        return [c["command"] for s in specs for c in s["containers"]]
    text = (
        "\n".join(s["run"] for s in steps(exported(project, target)[0]) if "run" in s)
        if target == "github"
        else export.export_schedule(project, target).read_text()
    )
    lines = re.findall(r"^(?!#|.*pip install).*?\b(mlops [a-z].*?)(?: \|\||>>|\||$)", text, re.M)
    return [shlex.split(re.sub(r"\$\{\{.*?\}\}", "1", line)) for line in lines]


@pytest.mark.parametrize(
    ("target", "verbs"),
    [
        ("github", ["run", "runs", "clean", "run", "diff"]),
        ("cron", ["watch", "clean"]),
        ("kubernetes", ["serve", "watch", "clean", "run"]),
    ],
)
def test_each_command_is_a_verb_with_options_that_it_has(
    project: loader.Project, target: str, verbs: list[str]
) -> None:
    tree: Any = typer.main.get_command(application.app)
    found = commands(project, target)
    assert [words[:2] for words in found] == [["mlops", v] for v in verbs]
    for _, verb, *options in found:
        tree.commands[verb].make_context(verb, options)


def test_the_workflow_has_what_github_asks_for(project: loader.Project) -> None:
    (flow,) = exported(project, "github", every="0 3 * * 1-5")
    assert set(flow) <= {
        "name",
        True,
        "permissions",
        "env",
        "defaults",
        "jobs",
    }  # YAML reads the key on as True
    assert flow[True] == {
        "schedule": [{"cron": "0 3 * * 1-5"}],
        "workflow_dispatch": None,
        "pull_request": None,
    }
    for job in flow["jobs"].values():
        assert isinstance(job["runs-on"], str)
        assert job["steps"]
        assert set(job) <= {"if", "runs-on", "timeout-minutes", "concurrency", "steps"}
    for step in steps(flow):
        assert ("uses" in step) != ("run" in step)
        assert set(step) <= {
            "name",
            "if",
            "uses",
            "run",
            "with",
        }
        assert "uses" not in step or re.fullmatch(r"[\w-]+/[\w-]+(/[\w-]+)?@v\d+", step["uses"])
        assert (
            "run" not in step
            or subprocess.run(
                ["bash", "-n", "-c", re.sub(r"\$\{\{.*?\}\}", "1", step["run"])], check=False
            ).returncode
            == 0
        )
    assert {
        s["with"]["python-version"] for s in steps(flow) if "setup-python" in s.get("uses", "")
    } == {"3.11"}


def test_a_project_below_its_repository_is_run_where_it_stands(project: loader.Project) -> None:
    (project.root.parent / ".git").mkdir()
    file = export.export_schedule(project, "github")
    assert file == project.root.parent / ".github" / "workflows" / "mlops-Tiny_table.yml"
    flow = yaml.safe_load(file.read_text())
    assert flow["defaults"]["run"]["working-directory"] == project.root.name
    assert flow["jobs"]["run"]["steps"][-1]["with"]["path"] == f"{project.root.name}/reports"


def test_a_lock_is_installed_and_then_this_package_if_it_is_not_in_it(
    project: loader.Project,
) -> None:
    assert [w.split("==")[0] for w in export.list_install_commands(project.root)] == [
        "pip install mlops-kit"
    ]
    (project.root / "requirements.lock").write_text("pandas==2.3.3\n")
    assert [w.split("==")[0] for w in export.list_install_commands(project.root)] == [
        "pip install -r requirements.lock",
        "pip install mlops-kit",
    ]
    (project.root / "requirements.lock").write_text("mlops-kit==0.1.0\n")
    assert export.list_install_commands(project.root) == ["pip install -r requirements.lock"]
    assert (
        export.list_install_commands(resources.find_resource_folder("templates").parent)[-1]
        == "pip install --no-deps -e ."
    )


def test_cron_goes_to_the_project_whatever_its_folder_is_called(project: loader.Project) -> None:
    lines = [
        line
        for line in export.export_schedule(project, "cron", every="*/30 * * * *")
        .read_text()
        .splitlines()
        if re.match(r"[*\d]", line)
    ]
    assert [line.split(None, 5)[:5] for line in lines] == [
        ["*/30", "*", "*", "*", "*"],
        ["30", "4", "*", "*", "0"],
    ]
    (project.root / ".mlops").mkdir()
    (project.root / ".mlops" / "secrets.env").write_text("API_KEY='k y'\n")
    for line in lines:
        command = line.split(None, 5)[5]
        assert "flock -n" in command or "mlops clean" in command
        assert not re.search(r"(?<!\\)%", command)  # to cron a bare % ends the command
        told = re.sub(
            r"mlops (watch --once|clean)",
            "sh -c 'echo \"$PWD $API_KEY\"'",
            command.replace(r"\%", "%"),
        )
        subprocess.run(["/bin/sh", "-c", told], cwd="/", check=True)
    assert (project.root / ".mlops" / "cron.log").read_text() == f"{project.root} k y\n" * 2


def test_kubernetes_runs_the_endpoint_and_the_rounds_as_nobody_special(
    project: loader.Project,
) -> None:
    found = {
        (d["kind"], d["metadata"]["name"]): d
        for d in exported(project, "kubernetes", every="5 1 * * *")
    }
    jobs = {name: d["spec"] for (kind, name), d in found.items() if kind == "CronJob"}
    assert {n: (s["schedule"], s["suspend"]) for n, s in jobs.items()} == {
        "tiny-table-watch": ("5 1 * * *", False),
        "tiny-table-clean": ("30 4 * * 0", False),
        "tiny-table-run": ("0 0 1 1 *", True),
    }
    deployment, service = (
        found["Deployment", "tiny-table"]["spec"],
        found["Service", "tiny-table"]["spec"],
    )
    assert (
        deployment["selector"]["matchLabels"]
        == service["selector"]
        == deployment["template"]["metadata"]["labels"]
    )
    claim = found["PersistentVolumeClaim", "tiny-table"]["metadata"]["name"]
    for pod in [
        deployment["template"]["spec"],
        *(s["jobTemplate"]["spec"]["template"]["spec"] for s in jobs.values()),
    ]:
        (one,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
        assert one["image"] == "here/tiny:1"
        assert one["resources"]["requests"]
        assert not one["securityContext"]["allowPrivilegeEscalation"]
        assert {m["mountPath"] for m in one["volumeMounts"]} == {
            "/project/reports",
            "/project/.mlops",
        }


def test_the_probes_ask_what_the_endpoint_answers(project: loader.Project) -> None:
    served = next(d for d in exported(project, "kubernetes") if d["kind"] == "Deployment")["spec"][
        "template"
    ]["spec"]["containers"][0]
    probes = {
        n: served[f"{n}Probe"]["httpGet"]["path"] for n in ("startup", "liveness", "readiness")
    }
    assert probes == {
        "startup": "/health/live",
        "liveness": "/health/live",
        "readiness": "/health/ready",
    }
    assert all(f'"{path}"' in APP.read_text() for path in probes.values())
    assert served["ports"] == [{"name": "http", "containerPort": 9000}]
    assert served["command"][-1] == "9000"


@pytest.mark.parametrize("target", export.EXPORT_TARGETS)
def test_secrets_are_named_and_never_written(project: loader.Project, target: str) -> None:
    text = export.export_schedule(project, target, image="here/tiny:1").read_text()
    assert all(name in text for name in NAMES)
    assert "value-of" not in text


@pytest.mark.parametrize("target", export.EXPORT_TARGETS)
def test_a_file_that_differs_is_written_over_only_by_force(
    project: loader.Project, target: str
) -> None:
    file = export.export_schedule(project, target, image="here/tiny:1")
    text = file.read_text()
    export.export_schedule(project, target, image="here/tiny:1")
    file.write_text("mine")
    with pytest.raises(KitError, match=f"{file.name} is there and differs"):
        export.export_schedule(project, target, image="here/tiny:1")
    assert file.read_text() == "mine"
    assert (
        export.export_schedule(project, target, image="here/tiny:1", force=True).read_text() == text
    )


def test_what_could_not_start_is_not_exported(project: loader.Project) -> None:
    with pytest.raises(KitError, match="unknown target 'kubernets'"):
        export.export_schedule(project, "kubernets")
    with pytest.raises(KitError, match="--image is missing"):
        export.export_schedule(project, "kubernetes")
    with pytest.raises(KitError, match=r"serve\.token is empty"):
        export.export_schedule(project.with_values("the test", serve={}), "kubernetes", image="x")
    assert [p.name for p in project.root.iterdir()] == ["mlops.yaml"]


@pytest.mark.parametrize(
    "text", ["* * * * *", "0 0 1 1 0", "1,2,50-59/3 */2 1-31 12 6", "59 23 31 12 0-6"]
)
def test_a_cron_expression_is_taken_as_it_is(text: str) -> None:
    assert export.validate_cron_expression(f" {text} ") == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has 0 fields"),
        ("@daily", "has 1 fields"),
        ("* * * * * *", "has 6 fields"),
        ("60 * * * *", "'60' is no minute"),
        ("* 24 * * *", "'24' is no hour"),
        ("* * 0 * *", "'0' is no day of the month"),
        ("* * * 13 *", "'13' is no month"),
        ("* * * * 7", "'7' is no weekday"),
        ("5-1 * * * *", "'5-1' is no minute"),
        ("*/0 * * * *", "no minute"),
        ("5/2 * * * *", "no minute"),
        ("1,, * * * *", "'' is no minute"),
        ("0 0 * * MON", "'MON' is no weekday"),
    ],
)
def test_what_is_no_cron_expression_is_worded(text: str, told: str) -> None:
    with pytest.raises(KitError, match=re.escape(told)):
        export.validate_cron_expression(text)
