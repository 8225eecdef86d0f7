"""Folders that ship with the package."""

from __future__ import annotations

from pathlib import Path

from mlops_kit.core.errors import KitError


def find_resource_folder(name: str) -> Path:
    """Find a folder that ships with the package, such as ``notebooks`` or ``templates``.

    Raises
    ------
    KitError
        If the folder is neither in the installed package nor in the checkout.
    """
    package_folder = Path(__file__).parent.parent
    installed_folder = package_folder / name
    checkout_folder = package_folder.parent / name
    for folder in (installed_folder, checkout_folder):
        if folder.is_dir():
            return folder
    raise KitError(
        f"the folder {name!r} of mlops-kit is missing",
        f"{installed_folder} or {checkout_folder}",
        "reinstall mlops-kit",
    )
