"""Exported schedules: valid for their system, with the project's values and without its secrets."""

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
from mlops_kit.serving import app

YAML = """
name: Tiny_table
source: {sql: select 1, url: "postgresql://me:${DB_PASSWORD}@db/x"}
target: late
task: binary
time: at
package: mlops-kit[all] @ git+https://example.com/mlops-kit@v1
serve: {token_env: SERVE_TOKEN, port: 9000}
secrets: [API_KEY]
"""
SECRET_NAMES = ["API_KEY", "SERVE_TOKEN", "DB_PASSWORD"]
APP_SOURCE = Path(app.__file__)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> loader.Project:
    """A project in a folder with an awkward name, whose secrets have values."""
    for name in SECRET_NAMES:
        monkeypatch.setenv(name, f"value-of-{name.lower()}")
    folder = tmp_path / "50% it's"
    folder.mkdir()
    (folder / "mlops.yaml").write_text(YAML)
    return loader.load_project(folder)


def export_text(project: loader.Project, target: str, **options: Any) -> str:
    """The text of an exported file."""
    return export.export_schedule(project, target, image="here/tiny:1", **options).read_text()


def export_documents(project: loader.Project, target: str, **options: Any) -> list[Any]:
    """The documents of an exported YAML file."""
    return list(yaml.safe_load_all(export_text(project, target, **options)))


def iterate_steps(workflow: dict[Any, Any]) -> Iterator[dict[str, Any]]:
    """The steps of all jobs of a workflow."""
    for job in workflow["jobs"].values():
        yield from job["steps"]


def replace_expressions(text: str) -> str:
    """Replace GitHub's expressions by a value."""
    return re.sub(r"\$\{\{.*?\}\}", "1", text)


def list_kubernetes_commands(project: loader.Project) -> list[list[str]]:
    """The commands of all containers."""
    commands = []
    for document in export_documents(project, "kubernetes"):
        if document["kind"] in {"CronJob", "Deployment"}:
            spec = document["spec"].get("jobTemplate", document)["spec"]["template"]["spec"]
            for container in spec["containers"]:
                words = container["command"]
                if words[:2] == ["sh", "-c"]:
                    words = shlex.split(words[2].partition(" || ")[0])
                commands.append(words)
    return commands


def list_commands(project: loader.Project, target: str) -> list[list[str]]:
    """The words of each ``mlops`` command in an exported file."""
    if target == "kubernetes":
        return list_kubernetes_commands(project)
    if target == "github":
        (workflow,) = export_documents(project, target)
        text = "\n".join(step["run"] for step in iterate_steps(workflow) if "run" in step)
    else:
        text = export_text(project, target)
    lines = re.findall(r"^(?!#|.*pip install).*?\b(mlops [a-z].*?)(?: \|\||>>|\||$)", text, re.M)
    return [shlex.split(replace_expressions(line)) for line in lines]


@pytest.mark.parametrize(
    ("target", "verbs"),
    [
        ("github", ["run", "runs", "clean", "run", "diff"]),
        ("cron", ["watch", "clean"]),
        ("kubernetes", ["serve", "watch", "run", "clean"]),
    ],
)
def test_exported_commands_have_only_options_that_exist(
    project: loader.Project, target: str, verbs: list[str]
) -> None:
    tree: Any = typer.main.get_command(application.app)
    commands = list_commands(project, target)
    assert [words[:2] for words in commands] == [["mlops", verb] for verb in verbs]
    for _, verb, *options in commands:
        tree.commands[verb].make_context(verb, options)


TOP_LEVEL_KEYS = {"name", True, "permissions", "env", "defaults", "jobs"}  # YAML: "on" is True
JOB_KEYS = {"if", "runs-on", "timeout-minutes", "concurrency", "steps"}
STEP_KEYS = {"name", "if", "uses", "run", "with"}


def test_workflow_has_what_github_requires(project: loader.Project) -> None:
    (workflow,) = export_documents(project, "github", every="0 3 * * 1-5")
    assert set(workflow) <= TOP_LEVEL_KEYS
    assert workflow[True] == {
        "schedule": [{"cron": "0 3 * * 1-5"}],
        "workflow_dispatch": None,
        "pull_request": None,
    }
    for job in workflow["jobs"].values():
        assert isinstance(job["runs-on"], str)
        assert job["steps"]
        assert set(job) <= JOB_KEYS


def test_steps_of_the_workflow_are_actions_or_valid_shell(project: loader.Project) -> None:
    (workflow,) = export_documents(project, "github")
    python_versions = set()
    for step in iterate_steps(workflow):
        assert ("uses" in step) != ("run" in step)
        assert set(step) <= STEP_KEYS
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+(/[\w-]+)?@v\d+", step["uses"])
        else:
            script = replace_expressions(step["run"])
            assert subprocess.run(["bash", "-n", "-c", script], check=False).returncode == 0
        if "setup-python" in step.get("uses", ""):
            python_versions.add(step["with"]["python-version"])
    assert python_versions == {"3.11"}


def test_project_in_a_subfolder_of_its_repository_runs_there(project: loader.Project) -> None:
    (project.root.parent / ".git").mkdir()
    file = export.export_schedule(project, "github")
    assert file == project.root.parent / ".github" / "workflows" / "mlops-Tiny_table.yml"
    workflow = yaml.safe_load(file.read_text())
    assert workflow["defaults"]["run"]["working-directory"] == project.root.name
    last_step = workflow["jobs"]["run"]["steps"][-1]
    assert last_step["with"]["path"] == f"{project.root.name}/reports"


PACKAGE_COMMAND = "pip install 'mlops-kit[all] @ git+https://example.com/mlops-kit@v1'"


@pytest.mark.parametrize(
    ("files", "command"),
    [
        (["requirements.lock", "requirements.txt"], "pip install -r requirements.lock"),
        (["requirements.txt", "pyproject.toml"], "pip install -r requirements.txt"),
        (["pyproject.toml", "environment.yml"], "pip install ."),
        (
            ["environment.yml"],
            '"$CONDA/bin/conda" env update --quiet --name base --file environment.yml',
        ),
    ],
)
def test_packages_are_installed_from_what_the_project_has(
    files: list[str], command: str, project: loader.Project
) -> None:
    for name in files:
        (project.root / name).write_text("# no packages\n")  # valid in each of the files
    commands = export.list_install_commands(project)
    assert commands[:2] == [PACKAGE_COMMAND, command]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("requirements.lock", "mlops-kit==0.1.0\n"),
        ("requirements.txt", "pandas\nmlops-kit[all] @ https://example.com/mlops_kit.whl\n"),
        ("requirements.txt", "mlops_kit @ git+https://example.com/mlops-kit  # pinned\n"),
        ("pyproject.toml", '[project]\ndependencies = ["mlops-kit[serve]>=0.1"]\n'),
        ("pyproject.toml", '[tool.poetry.dependencies]\nmlops-kit = "^0.1"\n'),
        ("environment.yml", "dependencies:\n  - pip:\n    - mlops-kit[all]\n"),
        ("environment.yml", "dependencies:\n  - conda-forge::mlops-kit=0.1\n"),
    ],
)
def test_package_that_the_project_lists_is_not_named_again(
    file: str, text: str, project: loader.Project
) -> None:
    (project.root / file).write_text(text)
    without_setting = project.with_values("the test", package="")
    commands = export.list_install_commands(without_setting)
    assert not any("mlops-kit" in command for command in commands)


def test_unknown_origin_of_the_package_is_an_error(project: loader.Project) -> None:
    without_setting = project.with_values("the test", package="")
    with pytest.raises(KitError, match="there is no such file"):
        export.export_schedule(without_setting, "github")
    (project.root / "requirements.txt").write_text("my-mlops-kit-tools\n")
    with pytest.raises(KitError, match=r"requirements\.txt does not list it"):
        export.export_schedule(without_setting, "github")
    export.export_schedule(without_setting, "cron")  # installs nothing


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("requirements.txt", "# mlops-kit\npandas  # for mlops-kit\n"),
        ("requirements.lock", "pandas==2.3.3\n    # via mlops-kit\n"),
        ("pyproject.toml", '[project]\nname = "x"\ndescription = "mlops-kit project"\n'),
        ("environment.yml", "# mlops-kit\ndependencies: [pandas]\n"),
    ],
)
def test_package_that_a_file_only_mentions_is_not_listed(
    file: str, text: str, project: loader.Project
) -> None:
    (project.root / file).write_text(text)
    without_setting = project.with_values("the test", package="")
    with pytest.raises(KitError, match=f"{re.escape(file)} does not list it"):
        export.list_install_commands(without_setting)


@pytest.mark.parametrize("package", ["", "mlops-kit[all]==0.1.0"])
@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("requirements.txt", "mlops-kit[all] @ file:///home/ada/mlops-kit\n"),
        ("pyproject.toml", '[project]\ndependencies = ["mlops-kit @ git+file:///kit@1f"]\n'),
    ],
)
def test_package_of_this_machine_is_not_exported(
    package: str, file: str, text: str, project: loader.Project
) -> None:
    (project.root / file).write_text(text)
    with pytest.raises(KitError, match="installs mlops-kit from this machine") as error:
        export.list_install_commands(project.with_values("the test", package=package))
    assert "mlops update" in (error.value.hint or "")


def test_damaged_list_of_packages_is_an_error(project: loader.Project) -> None:
    (project.root / "pyproject.toml").write_text("[project\n")
    without_setting = project.with_values("the test", package="")
    with pytest.raises(KitError, match=r"pyproject\.toml cannot be read"):
        export.list_install_commands(without_setting)


def test_own_copy_of_the_package_is_installed_from_its_folder() -> None:
    root = resources.find_resource_folder("templates").parent
    commands = export.list_install_commands(loader.load_project(root))
    assert commands[-1] == "pip install --no-deps -e ."


@pytest.mark.parametrize("target", ["cron", "kubernetes"])
def test_project_without_time_is_run_and_not_watched(project: loader.Project, target: str) -> None:
    config = project.root / "mlops.yaml"
    config.write_text(YAML.replace("time: at\n", ""))
    untimed = loader.load_project(project.root)
    verbs = [words[1] for words in list_commands(untimed, target)]
    assert verbs == (["run", "clean"] if target == "cron" else ["serve", "run", "clean"])
    assert "mlops run || test $? -eq 3" in export_text(untimed, target)


def test_chain_without_a_model_has_no_service(project: loader.Project) -> None:
    (project.root / "notebooks").mkdir()
    (project.root / "mlops.yaml").write_text("name: counts\nstages: {count: {notebook: c.ipynb}}\n")
    chain = loader.load_project(project.root)
    documents = export_documents(chain, "kubernetes", every="5 1 * * *")
    kinds = [document["kind"] for document in documents]
    assert kinds == ["PersistentVolumeClaim", "CronJob", "CronJob"]
    run = documents[1]["spec"]
    assert (run["schedule"], run["suspend"]) == ("5 1 * * *", False)
    assert "affinity" not in run["jobTemplate"]["spec"]["template"]["spec"]
    assert [words[1] for words in list_commands(chain, "cron")] == ["run", "clean"]


def test_failed_run_keeps_its_cache(project: loader.Project) -> None:
    (workflow,) = export_documents(project, "github")
    (save,) = [
        step for step in iterate_steps(workflow) if step.get("uses") == "actions/cache/save@v4"
    ]
    assert save["if"] == "${{ !cancelled() }}"
    restores = [
        step for step in iterate_steps(workflow) if step.get("uses") == "actions/cache/restore@v4"
    ]
    assert save["with"]["path"] == restores[0]["with"]["path"]
    assert save["with"]["key"] == restores[0]["with"]["key"]


def test_cron_commands_run_in_the_project_whatever_its_folder_is_called(
    project: loader.Project,
) -> None:
    text = export_text(project, "cron", every="*/30 * * * *")
    lines = [line for line in text.splitlines() if re.match(r"[*\d]", line)]
    schedules = [line.split(None, 5)[:5] for line in lines]
    assert schedules == [["*/30", "*", "*", "*", "*"], ["30", "4", "*", "*", "0"]]
    (project.root / ".mlops").mkdir()
    (project.root / ".mlops" / "secrets.env").write_text("API_KEY='k y'\n")
    for line in lines:
        command = line.split(None, 5)[5]
        assert "flock -n" in command or "mlops clean" in command
        assert not re.search(r"(?<!\\)%", command)  # to cron a bare % ends the command
        echo = "sh -c 'echo \"$PWD $API_KEY\"'"
        script = re.sub(r"mlops (watch --once|clean)", echo, command.replace(r"\%", "%"))
        subprocess.run(["/bin/sh", "-c", script], cwd="/", check=True)
    log = (project.root / ".mlops" / "cron.log").read_text()
    assert log == f"{project.root} k y\n" * 2
    (project.root / ".mlops" / "secrets.env").unlink()  # the command itself says what it lacks
    subprocess.run(["/bin/sh", "-c", script], cwd="/", check=True)
    log = (project.root / ".mlops" / "cron.log").read_text()
    assert log.endswith(f"{project.root} value-of-api_key\n")


def test_cron_says_what_precedes_the_first_pass(project: loader.Project) -> None:
    assert '#   mlops run\n#   mlops approve --reason "why"\n' in export_text(project, "cron")
    automatic = project.with_values("the test", approval="automatic")
    text = export.export_schedule(automatic, "cron", force=True).read_text()
    assert "#   mlops run\n" in text
    assert "mlops approve" not in text


def test_kubernetes_runs_endpoint_and_schedules_without_privileges(
    project: loader.Project,
) -> None:
    specs = {}
    claims = []
    for document in export_documents(project, "kubernetes", every="5 1 * * *"):
        name = document["metadata"]["name"]
        if document["kind"] == "PersistentVolumeClaim":
            claims.append(name)
        else:
            specs[document["kind"], name] = document["spec"]
    jobs = {name: spec for (kind, name), spec in specs.items() if kind == "CronJob"}
    assert {name: (job["schedule"], job["suspend"]) for name, job in jobs.items()} == {
        "tiny-table-watch": ("5 1 * * *", False),
        "tiny-table-clean": ("30 4 * * 0", False),
        "tiny-table-run": ("0 0 1 1 *", True),
    }
    deployment = specs["Deployment", "tiny-table"]
    selector = specs["Service", "tiny-table"]["selector"]
    assert deployment["selector"]["matchLabels"] == selector
    assert deployment["template"]["metadata"]["labels"] == selector
    assert claims == ["tiny-table"]
    pods = [job["jobTemplate"]["spec"]["template"]["spec"] for job in jobs.values()]
    for pod in [deployment["template"]["spec"], *pods]:
        assert pod["securityContext"]["runAsNonRoot"]
        claim = {"claimName": "tiny-table"}
        assert pod["volumes"] == [{"name": "data", "persistentVolumeClaim": claim}]
        (container,) = pod["containers"]
        assert container["image"] == "here/tiny:1"
        assert container["resources"]["requests"]
        assert not container["securityContext"]["allowPrivilegeEscalation"]
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts == {"/project/reports", "/project/.mlops"}


def test_probes_use_addresses_of_the_endpoint(project: loader.Project) -> None:
    documents = export_documents(project, "kubernetes")
    (deployment,) = [d for d in documents if d["kind"] == "Deployment"]
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    probes = ("startup", "liveness", "readiness")
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in probes}
    assert paths == {
        "startup": "/health/live",
        "liveness": "/health/live",
        "readiness": "/health/ready",
    }
    assert all(f'"{path}"' in APP_SOURCE.read_text() for path in paths.values())
    assert container["ports"] == [{"name": "http", "containerPort": 9000}]
    assert container["command"][-1] == "9000"


@pytest.mark.parametrize("target", export.EXPORT_TARGETS)
def test_secrets_are_named_and_never_written(project: loader.Project, target: str) -> None:
    text = export_text(project, target)
    assert all(name in text for name in SECRET_NAMES)
    assert "value-of" not in text


@pytest.mark.parametrize("target", export.EXPORT_TARGETS)
def test_file_that_differs_is_overwritten_only_by_force(
    project: loader.Project, target: str
) -> None:
    file = export.export_schedule(project, target, image="here/tiny:1")
    text = file.read_text()
    assert export_text(project, target) == text
    file.write_text("mine")
    with pytest.raises(KitError, match=f"{re.escape(file.name)} exists and differs"):
        export.export_schedule(project, target, image="here/tiny:1")
    assert file.read_text() == "mine"
    assert export_text(project, target, force=True) == text


def test_pull_request_without_an_earlier_run_is_no_failure(project: loader.Project) -> None:
    workflow = yaml.safe_load(export.export_schedule(project, "github").read_text())
    steps = {step["name"]: step for step in workflow["jobs"]["try"]["steps"] if "run" in step}
    (comparison,) = [step["run"] for name, step in steps.items() if name.startswith("Compare")]
    # `mlops diff` exits with 2 if there is only one run.
    assert comparison.endswith("|| test $? -eq 2")


def test_what_could_not_start_is_not_exported(project: loader.Project) -> None:
    with pytest.raises(KitError, match="unknown target 'kubernets'"):
        export.export_schedule(project, "kubernets")
    with pytest.raises(KitError, match="--image is missing"):
        export.export_schedule(project, "kubernetes")
    without_token = project.with_values("the test", serve={})
    with pytest.raises(KitError, match=r"serve\.token_env is empty"):
        export.export_schedule(without_token, "kubernetes", image="x")
    assert [path.name for path in project.root.iterdir()] == ["mlops.yaml"]


@pytest.mark.parametrize(
    "text", ["* * * * *", "0 0 1 1 0", "1,2,50-59/3 */2 1-31 12 6", "59 23 31 12 0-6"]
)
def test_valid_cron_expression_is_accepted(text: str) -> None:
    assert export.validate_cron_expression(f" {text} ") == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has 0 fields"),
        ("@daily", "has 1 fields"),
        ("* * * * * *", "has 6 fields"),
        ("60 * * * *", "'60' is not a valid minute"),
        ("* 24 * * *", "'24' is not a valid hour"),
        ("* * 0 * *", "'0' is not a valid day of the month"),
        ("* * * 13 *", "'13' is not a valid month"),
        ("* * * * 7", "'7' is not a valid weekday"),
        ("5-1 * * * *", "'5-1' is not a valid minute"),
        ("*/0 * * * *", "not a valid minute"),
        ("5/2 * * * *", "not a valid minute"),
        ("1,, * * * *", "'' is not a valid minute"),
        ("0 0 * * MON", "'MON' is not a valid weekday"),
    ],
)
def test_invalid_cron_expression_is_explained(text: str, message: str) -> None:
    with pytest.raises(KitError, match=re.escape(message)):
        export.validate_cron_expression(text)
