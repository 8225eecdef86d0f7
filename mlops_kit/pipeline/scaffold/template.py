"""Rendering the template of a project with copier."""

from __future__ import annotations

import tempfile
import textwrap
from pathlib import Path
from typing import Any

from mlops_kit.core.extras import import_from_extra
from mlops_kit.core.resources import find_resource_folder
from mlops_kit.pipeline.scaffold.package_origin import find_package_requirement

_TEMPLATE = "project"
_COMMENT_WIDTH = 96


def render_template(answers: dict[str, Any], package: str = "") -> dict[str, str]:
    """Render the installed package's template.

    Parameters
    ----------
    answers : dict
        The values of ``templates/project/copier.yml``; the requirement of this package is added.
    package : str
        The setting ``package`` of the project; empty: the requirement names where this package was
        installed from.

    Returns
    -------
    dict of str to str
        The text of each file, by its path in a project.

    Raises
    ------
    MissingExtraError
        If copier is not installed.
    """
    with import_from_extra("lab"):
        import copier

    template = find_resource_folder("templates") / _TEMPLATE
    requirement = find_package_requirement(package)
    package_answers = {
        "package_requirement": requirement.line,
        "package_note": textwrap.wrap(requirement.note, _COMMENT_WIDTH),
    }
    with tempfile.TemporaryDirectory() as folder:
        copier.run_copy(
            str(template),
            folder,
            data=answers | package_answers,
            defaults=True,
            quiet=True,
            # The template of the package runs no task; the user's own copier settings do not count.
            settings=copier.Settings(),
        )
        root = Path(folder)
        texts = {}
        for path in sorted(root.rglob("*")):
            if path.is_file():
                texts[path.relative_to(root).as_posix()] = path.read_text(encoding="utf-8")
    return texts
