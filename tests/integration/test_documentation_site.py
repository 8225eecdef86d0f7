"""The documentation builds without a warning, and its pages request nothing from other hosts."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import mlops_kit
from mlops_kit.cli.application import app
from tests.support.environment import ROOT, make_clean_environment

# By element, the attribute that a browser loads without a click.
LOADED_ATTRIBUTES = {
    "script": "src",
    "link": "href",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
    "object": "data",
}
# Relations of <link> that name another page and load nothing.
NAVIGATION = {"index", "search", "next", "prev", "canonical", "author", "copyright"}
EXTERNAL = re.compile(r"^(https?:)?//", re.IGNORECASE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    command += ["-d", str(folder / "doctrees"), str(ROOT / "docs"), str(folder / "html")]
    completed = subprocess.run(
        command,
        env=make_clean_environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    assert completed.stderr == ""
    return folder / "html"


class ResourceParser(HTMLParser):
    """Collects what a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.resources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the resource of an element."""
        values = dict(attrs)
        relations = set((values.get("rel") or "").split())
        is_navigation = tag == "link" and bool(relations & NAVIGATION)
        resource = values.get(LOADED_ATTRIBUTES.get(tag, ""))
        if resource and not is_navigation:
            self.resources.append(resource)


def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    external = []
    pages = sorted(site.rglob("*.html"))
    for page in pages:
        parser = ResourceParser()
        parser.feed(page.read_text(encoding="utf-8"))
        assert parser.resources, f"{page.name} loads not even its style sheet"
        external += [f"{page.name}: {name}" for name in parser.resources if EXTERNAL.match(name)]
    assert len(pages) > 10
    assert external == []


def test_style_sheets_load_nothing_from_other_hosts(site: Path) -> None:
    pattern = re.compile(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")\s]+)")
    external = []
    for path in site.rglob("*.css"):
        external += pattern.findall(path.read_text(encoding="utf-8"))
    assert external == []


def test_reference_has_every_command(site: Path) -> None:
    page = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    names = [command.name for command in app.registered_commands]
    assert [name for name in names if f'id="mlops-{name}"' not in page] == []


def test_reference_has_every_public_name(site: Path) -> None:
    page = (site / "reference" / "api.html").read_text(encoding="utf-8")
    missing = []
    for name in mlops_kit.__all__:
        value = getattr(mlops_kit, name)
        if inspect.ismodule(value):
            anchors = [f'id="{name.replace("_", "-")}"']
            for inner in value.__all__:
                if inspect.isclass(getattr(value, inner)) or inspect.isroutine(
                    getattr(value, inner)
                ):
                    anchors.append(f'<span class="pre">{inner}</span>')
        else:
            anchors = [f'id="mlops_kit.{name}"']
        missing += [f"{name}: {anchor}" for anchor in anchors if anchor not in page]
    assert [line for line in missing if "__version__" not in line] == []


def test_schema_is_beside_the_pages(site: Path) -> None:
    schema = json.loads((site / "mlops.schema.json").read_text(encoding="utf-8"))
    assert schema["title"] == "mlops.yaml"


def test_statistics_name_their_sources(site: Path) -> None:
    page = (site / "explanation" / "statistics.html").read_text(encoding="utf-8")
    assert all(name in page for name in ("Wilson", "Hanley", "Bergsma", "Efron", "Elkan"))
