"""Rendering the template of a project with copier."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from mlops_kit import __version__
from mlops_kit.core.extras import import_from_extra
from mlops_kit.core.resources import find_resource_folder

_TEMPLATE = "project"


def render_template(answers: dict[str, Any]) -> dict[str, str]:
    """Render the installed package's template.

    Parameters
    ----------
    answers : dict
        The values of ``templates/project/copier.yml``; the version of the package is added.

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
    with tempfile.TemporaryDirectory() as folder:
        copier.run_copy(
            str(template),
            folder,
            data={**answers, "kit_version": __version__},
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
