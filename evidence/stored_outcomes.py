"""Outcomes of an evidence script, which resumes where it was interrupted.

Outcomes are kept in ``build/`` until a tracked file that decides them changes.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class OutcomeStore:
    """The outcomes of a script by name of the case.

    Parameters
    ----------
    name : str
        Name of the file below ``build/``, without its ending.
    deciding_paths : sequence of str
        Tracked files and folders that decide an outcome, relative to the repository; the script is
        one of them.
    starts_anew : bool
        Whether to forget what is stored.

    Attributes
    ----------
    outcomes : dict
        From the name of a case to its outcome, as JSON can hold it.
    """

    def __init__(self, name: str, deciding_paths: Sequence[str], starts_anew: bool = False) -> None:
        self._file = ROOT / "build" / f"{name}.json"
        self._code_hash = hash_tracked_files(deciding_paths)
        self.outcomes: dict[str, Any] = {}
        if self._file.exists() and not starts_anew:
            stored = json.loads(self._file.read_text(encoding="utf-8"))
            if stored["code"] == self._code_hash:
                self.outcomes = stored["outcomes"]

    def save(self) -> None:
        """Store all outcomes so far; a killed process leaves the earlier file."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"code": self._code_hash, "outcomes": self.outcomes}, indent=1)
        temporary_file = self._file.with_suffix(".tmp")
        temporary_file.write_text(text, encoding="utf-8")
        temporary_file.replace(self._file)


def hash_tracked_files(paths: Sequence[str]) -> str:
    """Hash names and contents of the tracked files below some paths."""
    listed = subprocess.run(
        ["git", "ls-files", *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    digest = hashlib.sha256()
    for name in listed.stdout.splitlines():
        digest.update(name.encode())
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()
