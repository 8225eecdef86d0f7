"""Where this package was installed from: what the requirements of a project name.

An installer records the origin of what it did not take from an index in ``direct_url.json`` (PEP
610).
"""

from __future__ import annotations

import json
from importlib import metadata
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from mlops_kit import __version__
from mlops_kit.pipeline.current_project import PACKAGE_FOLDER

_PACKAGE = "mlops-kit[all]"
_DISTRIBUTION = "mlops-kit"
_LOCAL_NOTE = (
    "mlops-kit was installed from this machine and not from an index, so the next line works on "
    "this machine only. To install the project elsewhere, set package in mlops.yaml to a git URL, "
    "an index version or the path of a wheel in the project, and run mlops update."
)


class PackageRequirement(NamedTuple):
    """A requirement of this package, and a sentence about it; empty if there is none to add."""

    line: str
    note: str


def find_package_requirement(package: str = "") -> PackageRequirement:
    """Return the requirement with which a project installs this package.

    Parameters
    ----------
    package : str
        The setting ``package`` of the project; empty: from where it is installed here.
    """
    if package:
        return PackageRequirement(package, "")
    try:
        stored = metadata.distribution(_DISTRIBUTION).read_text("direct_url.json")
    except metadata.PackageNotFoundError:  # a checkout that is only on the import path
        return build_package_requirement({"url": PACKAGE_FOLDER.parent.as_uri()})
    return build_package_requirement(json.loads(stored) if stored else None)


def build_package_requirement(direct_url: dict[str, Any] | None) -> PackageRequirement:
    """Return the requirement for an origin.

    Parameters
    ----------
    direct_url : dict or None
        The content of ``direct_url.json``; None for a package from an index.

    Examples
    --------
    >>> url = "https://github.com/example/mlops-kit"
    >>> build_package_requirement({"url": url, "vcs_info": {"vcs": "git", "commit_id": "1f"}}).line
    'mlops-kit[all] @ git+https://github.com/example/mlops-kit@1f'
    """
    if direct_url is None:
        return PackageRequirement(f"{_PACKAGE}=={__version__}", "")
    url = direct_url["url"]
    vcs = direct_url.get("vcs_info")
    if vcs:
        url = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    if direct_url.get("subdirectory"):
        url += f"#subdirectory={direct_url['subdirectory']}"
    return PackageRequirement(f"{_PACKAGE} @ {url}", _LOCAL_NOTE if is_local_url(url) else "")


def is_local_url(url: str) -> bool:
    """Return whether a URL names a file, folder or repository of this machine.

    >>> [is_local_url(url) for url in ("file:///tmp/kit", "git+file:///kit@1", "https://a/kit")]
    [True, True, False]
    """
    return urlsplit(url).scheme.rpartition("+")[2] == "file"
