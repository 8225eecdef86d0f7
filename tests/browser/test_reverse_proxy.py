"""Dashboards and the endpoint's documentation behind a real nginx that offers them below a path."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlops_kit.project.loader import Project
from tests.support import browser_window, reverse_proxy
from tests.support.environment import ROOT, make_clean_environment
from tests.support.served_project import get_last_decision
from tests.support.server_process import ServerProcess

DASHBOARD_PREFIX = "/team/churn/"
ENDPOINT_PREFIX = "/churn-api/"
ANSWER_IS_SHOWN = "document.querySelector('.answer')?.textContent"
for_each_proxy = pytest.mark.parametrize(
    "removes_prefix", [False, True], ids=["keeps the prefix", "removes the prefix"]
)
pytestmark = [browser_window.NEEDS_CHROMIUM, reverse_proxy.NEEDS_NGINX]


@pytest.fixture(scope="module")
def public_port(registered_project: Project) -> int:
    """The proxy's port; the project states the address that visitors use."""
    port = reverse_proxy.find_free_port()
    config = registered_project.root / "mlops.yaml"
    text = config.read_text()
    address = f"http://127.0.0.1:{port}{DASHBOARD_PREFIX}"
    assert "base_url: /churn/" in text
    config.write_text(text.replace("base_url: /churn/", f"base_url: {address}"))
    return port


@pytest.fixture(scope="module")
def dashboard_port(registered_project: Project, public_port: int) -> Iterator[int]:
    """The port of the dashboards' server."""
    assert public_port
    environment = make_clean_environment() | {
        "PYTHONPATH": str(ROOT / "tests" / "support"),
        "PYTHONUNBUFFERED": "1",
    }
    port = reverse_proxy.find_free_port()
    command = [sys.executable, "-m", "mlops_kit.cli", "dashboard", "--no-browser"]
    command += ["--port", str(port), "--project", str(registered_project.root)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.strip().endswith("/review"):
                    break
            yield port
        finally:
            process.terminate()


@contextmanager
def open_window(chromium: Any, address: str, path: str) -> Iterator[tuple[Any, list[str]]]:
    """Open a page below an address, beside which nothing may be requested."""
    cookie = {"name": "x-user", "value": "ann", "domain": "127.0.0.1", "path": "/"}
    cookie |= {"expires": -1, "httpOnly": False, "secure": False, "sameSite": "Lax"}
    allowed = (address, address.replace("http:", "ws:"), "data:", "about:")
    with browser_window.open_window(
        chromium,
        address + path,
        allowed,
        extra_http_headers={"X-User": "ann"},
        storage_state={"cookies": [cookie], "origins": []},
    ) as opened:
        yield opened


@for_each_proxy
def test_dashboards_work_below_a_path(
    chromium: Any,
    registered_project: Project,
    public_port: int,
    dashboard_port: int,
    tmp_path: Path,
    removes_prefix: bool,
) -> None:
    with reverse_proxy.run_nginx(
        tmp_path / "nginx", public_port, DASHBOARD_PREFIX, dashboard_port, removes_prefix
    ) as address:
        for name in ("review", "monitoring"):
            with open_window(chromium, address, name) as (page, problems):
                page.wait_for_selector("[role=tablist], h1")
                assert page.inner_text("h1")
                assert not problems
        reason = f"tried behind a proxy ({removes_prefix})"
        with open_window(chromium, address, "review") as (page, problems):
            page.click("button[data-act=ask]:not([disabled])")
            page.fill("dialog[open] textarea", reason)
            page.click("dialog[open] [type=submit]")
            page.wait_for_function(ANSWER_IS_SHOWN)
            assert not problems
        assert get_last_decision(registered_project) == ("changes", "ann", reason)


@for_each_proxy
def test_documentation_of_the_endpoint_works_below_a_path(
    chromium: Any, original: Path, tmp_path: Path, removes_prefix: bool
) -> None:
    home = shutil.copytree(original, tmp_path / "home")
    config = home / "mlops.yaml"
    config.write_text(config.read_text() + f"serve: {{root_path: {ENDPOINT_PREFIX}}}\n")
    server = ServerProcess(home)
    with (
        reverse_proxy.run_nginx(
            tmp_path / "nginx",
            reverse_proxy.find_free_port(),
            ENDPOINT_PREFIX,
            server.port,
            removes_prefix,
        ) as address,
        open_window(chromium, address, "docs") as (page, problems),
    ):
        page.click("text=/predict >> nth=0")
        page.click("button.try-out__btn")
        page.click("button.execute")
        status = page.wait_for_selector(".live-responses-table tbody .response-col_status")
        assert status.inner_text().startswith("200")
        assert not problems
    assert server.stop(signal.SIGTERM) == 0
