"""Resources."""

from __future__ import annotations

from pathlib import Path

from mlops_kit.core.errors import KitError


def find_resource_folder(name: str) -> Path:
    """A folder that ships with the package (``notebooks``, ``templates``), or the checkout's."""
    here = Path(__file__).parent.parent
    inside, checkout = here / name, here.parent / name
    for place in (inside, checkout):
        if place.is_dir():
            return place
    raise KitError(
        f"the folder {name!r} of mlops-kit is missing",
        f"{inside} or {checkout}",
        "install mlops-kit again",
    )
