"""The pages' server: Voilà as an application of its own, which also takes the decisions.

It serves this project's ``notebooks/dashboards`` and nothing else, on loopback unless a token or an
identity is given. A page is HTML that a kernel made beforehand; the kernel knows no visitor, no token
and no cookie, and is shut down once the page is told, unless the page has a live widget. Decisions
come by ``POST /mlops/decide`` with jupyter_server's check against forged forms; what they do is
given by the caller (``acts``), for this room imports no other.
"""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, FileSystemLoader
from jupyter_core.utils import run_sync
from jupyter_server.auth.identity import IdentityProvider
from jupyter_server.base.handlers import Template404
from jupyter_server.utils import url_path_join
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from traitlets.config import Config
from voila.app import Voila
from voila.request_info_handler import RequestInfoSocketHandler

from mlops_kit.core.errors import KitError
from mlops_kit.core.resources import find_resource_folder
from mlops_kit.dashboards import rendering
from mlops_kit.dashboards.request_handlers import Act, Decide, Here, Me, Note, Page, Reports, Start
from mlops_kit.project.loader import Project

PATIENCE = 30  # seconds that the pages' kernels are waited for
CLOSED = (
    "/voila/tree",
    "/voila/render",
    "/voila/files",
    "api/contents",
)  # Voilà's own ways to look around


class Dashboards(Voila):  # type: ignore[misc]
    """Voilà with the decisions, and without its tree, its files and its contents."""

    project: Project
    acts: Mapping[str, Act] = {}
    sockets: Sequence[socket.socket] = ()
    ready: Callable[[list[str]], object]
    warm: Callable[[], object]
    note: Callable[[], str]

    def init_settings(self) -> dict[str, Any]:
        """What every handler knows; another host's name for this computer is refused on loopback."""
        settings: dict[str, Any] = super().init_settings()
        known = settings["jinja2_env"]
        known.loader = ChoiceLoader([FileSystemLoader(rendering.folder()), known.loader])
        pages = sorted(
            (p.stem for p in Path(self.root_dir).glob("*.ipynb")), key=lambda n: (n != "review", n)
        )
        return {
            **settings,
            "acts": dict(self.acts),
            "people": self.project.config.people,
            "making": {},
            "tasks": set(),
            "decided": 0,
            "pages": pages,
            "note": self.note,
            "compress_response": True,
            "default_handler_class": Template404,
            "allow_remote_access": not loopback(self.ip),
            "local_hostnames": ["localhost"],
        }

    def init_handlers(self) -> list[Any]:
        """Voilà's handlers that a page needs, ours before them."""
        kept = [
            h
            for h in super().init_handlers()
            if not any(part in h[0] for part in CLOSED) and h[0] != self.server_url
        ]
        at = partial(url_path_join, self.server_url)
        page = {
            "template_paths": self.template_paths,
            "config": self.config,
            "voila_configuration": self.voila_configuration,
        }
        names = "|".join(map(re.escape, self.app.settings["pages"]))
        return [
            (at("/mlops/me"), Me),
            (at("/mlops/decide"), Decide),
            (at("/mlops/note"), Note),
            (at("/"), Start),
            (at(r"/reports/(.*\.html)"), Reports, {"path": str(self.project.reports_folder)}),
            (at(rf"/({names})"), Page, page),
            *kept,
        ]

    def listen(self) -> None:
        """Serve on the sockets that were taken at the start, until the process is told to stop."""
        HTTPServer(self.app).add_sockets(self.sockets)
        self.ioloop = IOLoop.current()
        self.ioloop.add_callback(self.tell)
        try:
            self.ioloop.start()
        except KeyboardInterrupt:
            self.log.info("stopped")
        finally:
            self.stop()

    def stop(self) -> None:
        """End all kernels at once: one that waits for a visitor has nothing to finish."""
        run_sync(self.kernel_manager.shutdown_all)(now=True)
        shutil.rmtree(self.connection_dir, ignore_errors=True)

    async def tell(self) -> None:
        """Give the pages' addresses once a kernel of each stands ready."""
        pages, begin = self.app.settings["pages"], time.monotonic()
        while time.monotonic() - begin < PATIENCE and not all(map(self.prepared, pages)):
            await asyncio.sleep(0.05)
        self.ready([f"{self._url(self.ip)}{page}" for page in pages])
        await IOLoop.current().run_in_executor(None, self.warm)

    def prepared(self, page: str) -> bool:
        """Whether a kernel waits for a visitor of this page, or has made it already (a page of one's own need not wait)."""
        started = [
            f.result()
            for f in self.kernel_manager._pools.get(f"{page}.ipynb", [])
            if f.done() and not f.cancelled() and f.exception() is None
        ]
        return any(
            s["task"].done() or s["kernel_id"] in RequestInfoSocketHandler._waiters for s in started
        )


def pages(project: Project) -> Path:
    """The folder of the dashboards' notebooks: the project's own, or those that ship with the package."""
    own = project.notebooks_folder / "dashboards"
    return own if own.is_dir() else find_resource_folder("notebooks") / "dashboards"


def loopback(ip: str) -> bool:
    """Whether only this computer can reach an address.

    >>> loopback("127.0.0.1"), loopback("localhost"), loopback("0.0.0.0"), loopback("dash.example.org")
    (True, True, False, False)
    """
    try:
        return ip == "localhost" or ipaddress.ip_address(ip).is_loopback
    except ValueError:
        return False


def secret(name: str) -> str:
    """The token, taken out of this process's environment, so that no kernel inherits it.

    Raises
    ------
    KitError
        If the variable is not set.
    """
    if name and not os.environ.get(name):
        raise KitError(
            f"the environment has no {name!r}",
            "a secret that whoever may look is given",
            f"export {name}=…",
        )
    return os.environ.pop(name) if name else ""


def provider(name: str) -> type[IdentityProvider]:
    """The class that says who is here: ours, or the one that is named as ``package.module.Class``.

    Raises
    ------
    KitError
        If there is none of this name.
    """
    if not name:
        return Here
    module, _, cls = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), cls)
    except (ImportError, AttributeError, ValueError) as error:
        raise KitError(
            f"the identity {name!r} cannot be loaded: {error}",
            "a class as package.module.Class",
            "edit dashboard.identity in mlops.yaml",
        ) from error
    if not (isinstance(found, type) and issubclass(found, IdentityProvider)):
        raise KitError(
            f"the identity {name!r} is no IdentityProvider",
            "a subclass of jupyter_server.auth.identity.IdentityProvider",
            "edit dashboard.identity in mlops.yaml",
        )
    return found


def taken(port: int, ip: str) -> list[socket.socket]:
    """The sockets to listen on.

    Raises
    ------
    KitError
        If the port is taken or the address is not this computer's.
    """
    try:
        return bind_sockets(port, ip)
    except OSError as error:
        raise KitError(
            f"{ip}:{port} cannot be listened on: {error.strerror}",
            "a free port of this computer",
            "mlops dashboard --port 0 takes any that is free",
        ) from error


def settings(project: Project, token: str) -> Config:
    """Voilà's settings: our template, kernels made beforehand and reached by sockets in a folder of their own."""
    config = Config()
    config.Voila.update(
        {
            "root_dir": str(pages(project)),
            "token": token,
            "open_browser": False,
            "log_level": "ERROR",
        }
    )
    config.VoilaConfiguration.update(
        {
            "template": "mlops",
            "theme": "light",
            "preheat_kernel": True,
            "default_pool_size": project.config.dashboard.ready_kernels,
            "allow_template_override": "NO",
            "allow_theme_override": "NO",
            "extension_allowlist": [
                "@jupyter-widgets/jupyterlab-manager",
                "@voila-dashboards/widgets-manager8",
            ],
        }
    )
    config.VoilaKernelManager.fill_delay = 0.1
    config.MappingKernelManager.update(
        {"cull_idle_timeout": 600, "cull_interval": 60}
    )  # of a page with live widgets that nobody looks at any more
    config.KernelManager.transport = "ipc"
    return config


def start(
    project: Project,
    acts: Mapping[str, Act],
    port: int | None = None,
    ip: str = "",
    ready: Callable[[list[str]], object] = print,
    warm: Callable[[], object] = dict,
    note: Callable[[], str] = str,
) -> None:
    """Serve the project's dashboards until the process is told to stop.

    Parameters
    ----------
    acts : mapping
        What each decision does: given who decides and what the page said, it returns the sentence that answers.
    port, ip
        Stand over those in mlops.yaml.
    ready : callable
        Told the pages' addresses once they answer.
    warm : callable
        Called then, in a thread: loads what the first decision would wait for.
    note : callable
        What a page should tell though its kernel does not know it, as a sentence; nothing if all is well.

    Raises
    ------
    KitError
        If the port is taken, or others could reach the pages and nothing says who they are.
    """
    own = project.config.dashboard
    address = ip or own.host
    token, identity = secret(own.token_env), provider(own.identity_provider)
    if not loopback(address) and not token and identity is Here:
        raise KitError(
            f"the dashboards would answer others on {address}",
            "a token or an identity, so that not everybody decides",
            "set dashboard.token or dashboard.identity in mlops.yaml, or stay on 127.0.0.1",
        )
    sockets = taken(own.port if port is None else port, address)
    os.environ["MLOPS_PROJECT"] = str(project.root)
    os.environ["JUPYTER_PATH"] = os.pathsep.join(
        filter(None, (str(find_resource_folder("templates")), os.environ.get("JUPYTER_PATH")))
    )
    Here.local = loopback(address)
    app = Dashboards(
        config=settings(project, token),
        identity_provider_class=identity,
        ip=address,
        port=sockets[0].getsockname()[1],
    )
    app.project, app.acts, app.sockets, app.ready, app.warm, app.note = (
        project,
        acts,
        sockets,
        ready,
        warm,
        note,
    )
    app.initialize(argv=[])
    app.start()
