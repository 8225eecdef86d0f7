"""The same commands on somebody else's clock: GitHub's, cron's, Kubernetes'.

Values come from the project; a secret is named, never written.

To add a target: a template, and its line in ``TARGETS``.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from mlops_kit import __version__
from mlops_kit.core import files
from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.resources import find_resource_folder
from mlops_kit.project import secrets
from mlops_kit.project.loader import Project

EXPORT_TARGETS = {  # the template, and the file that it becomes
    "github": ("ci/github.yml", ".github/workflows/mlops.yml"),
    "cron": ("deploy/mlops.cron", "deploy/mlops.cron"),
    "kubernetes": ("deploy/kubernetes.yaml", "deploy/kubernetes.yaml"),
}
_NIGHTLY_SCHEDULE = "15 2 * * *"
_CRON_FIELDS = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of the month", 1, 31),
    ("month", 1, 12),
    ("weekday", 0, 6),
)  # what all three clocks understand: 7 is no Sunday
_CRON_FIELD_PATTERN = re.compile(r"(?:\*|(?P<first>\d+)-(?P<last>\d+))(?:/[1-9]\d*)?|(?P<one>\d+)")


def validate_cron_expression(text: str) -> str:
    """A cron expression, checked.

    >>> schedule("*/20  6-22 * * 1-5")
    '*/20 6-22 * * 1-5'

    Raises
    ------
    KitError
        Naming the field that is none.
    """
    fields = text.split()
    if len(fields) != len(_CRON_FIELDS):
        raise KitError(
            f"--every {text!r} has {len(fields)} fields",
            f"five: {', '.join(name for name, *_ in _CRON_FIELDS)}",
            f"--every '{_NIGHTLY_SCHEDULE}'",
        )
    for field, (name, low, high) in zip(fields, _CRON_FIELDS, strict=True):
        for piece in field.split(","):
            found = _CRON_FIELD_PATTERN.fullmatch(piece)
            ends = [int(n) for n in found.groups() if n] if found else [high + 1]
            if ends != sorted(ends) or any(not low <= n <= high for n in ends):
                raise KitError(
                    f"--every {text!r}: {piece!r} is no {name}",
                    f"numbers from {low} to {high}: one, several (1,2), a range (1-5), all (*), each n-th (*/2)",
                    f"--every '{_NIGHTLY_SCHEDULE}'",
                )
    return " ".join(fields)


def export_schedule(
    project: Project, target: str, every: str = "", image: str = "", force: bool = False
) -> Path:
    """Write a schedule of the project's commands for another clock; the file.

    Raises
    ------
    KitError
        If there is no such target, the expression is none, the target needs what is not given, or the
        file is there and differs.
    """
    if target not in EXPORT_TARGETS:
        raise KitError(
            f"unknown target {target!r}",
            suggest_names(target, EXPORT_TARGETS),
            "mlops export github",
        )
    if target == "kubernetes":
        _check_deployable(project, image)
    template, name = EXPORT_TARGETS[target]
    root = _find_repository_root(project.root) if target == "github" else project.root
    values = _collect_template_values(
        project, validate_cron_expression(every or _NIGHTLY_SCHEDULE), image
    )
    text = _render_export_template(
        template,
        folder="" if root == project.root else project.root.relative_to(root).as_posix(),
        **values,
    )
    file = root / (
        name
        if root == project.root
        else name.replace("mlops.yml", f"mlops-{project.config.name}.yml")
    )
    if file.exists() and file.read_text(encoding="utf-8") != text and not force:
        raise KitError(
            f"{file.relative_to(root)} is there and differs",
            "no such file, or one that was exported and not changed",
            "move it away, or write over it with --force",
        )
    files.write_text(file, text)
    return file


def _check_deployable(project: Project, image: str) -> None:
    """Refuse a deployment that could not start."""
    if not image:
        raise KitError(
            "--image is missing",
            "the name of an image that holds the project in /project",
            f"mlops export kubernetes --image {project.config.name}:1",
        )
    if not project.config.serve.token_env:
        raise KitError(
            "serve.token is empty, and a service that others reach needs a token",
            "the name of an environment variable that holds it",
            "serve: {token: SERVE_TOKEN} in mlops.yaml",
        )


def _find_repository_root(root: Path) -> Path:
    """The folder in which GitHub looks for workflows: that of the git repository."""
    return next((p for p in (root, *root.parents) if (p / ".git").exists()), root)


def _collect_template_values(project: Project, every: str, image: str) -> dict[str, Any]:
    """What the templates are filled with."""
    config = project.config
    return {
        "name": config.name,
        "every": every,
        "image": image,
        "port": config.serve.port or 8000,
        "zone": config.timezone,
        "reports": config.reports,
        "secrets": secrets.list_secret_variables(project),
        "install": list_install_commands(project.root),
        "host": re.sub(r"[^a-z0-9]+", "-", config.name.lower())[:40].strip("-"),
        "mounts": [(part, PurePosixPath("/project") / part) for part in (config.reports, ".mlops")],
        "root": shlex.quote(str(project.root)).replace("%", r"\%"),
        "bin": Path(sys.executable).parent,
    }


def list_install_commands(root: Path) -> list[str]:
    """The commands that install what the project needs: its lock where there is one, and this package."""
    lock = root / "requirements.lock"
    held = lock.read_text(encoding="utf-8") if lock.exists() else ""
    ours = (
        "pip install --no-deps -e ."
        if (root / "mlops_kit").is_dir()
        else f"pip install mlops-kit=={__version__}"
    )
    return [
        *(["pip install -r requirements.lock"] if held else []),
        *([] if re.search(r"^mlops-kit\b", held, re.M) else [ours]),
    ]


def _render_export_template(template: str, **values: Any) -> str:
    """A template with its values; brackets mark them, for GitHub has the braces."""
    import jinja2

    marks = {
        "variable_start_string": "[[",
        "variable_end_string": "]]",
        "block_start_string": "[%",
        "block_end_string": "%]",
        "comment_start_string": "[#",
        "comment_end_string": "#]",
    }
    environment = jinja2.Environment(
        **marks,  # type: ignore[arg-type]
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.from_string(
        (find_resource_folder("templates") / template).read_text(encoding="utf-8")
    ).render(**values)
