"""The server of the dashboards: Voilà as an application of its own, which also takes decisions.

It serves the project's ``notebooks/dashboards`` and nothing else, on loopback unless there is a
token or an identity provider. A page is HTML that a kernel builds; the kernel knows no visitor, no
token and no cookie, and is shut down once the page is sent, unless the page has a live widget.
Decisions arrive by ``POST /mlops/decide`` with jupyter_server's check against forged requests; what
they do, the caller passes as ``actions``.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, FileSystemLoader

from mlops_kit.core.errors import KitError
from mlops_kit.core.extras import import_from_extra, require_extra
from mlops_kit.core.network import is_loopback
from mlops_kit.core.resources import find_resource_folder
from mlops_kit.dashboards.rendering import get_template_folder
from mlops_kit.dashboards.request_handlers import (
    DecisionAction,
    DecisionHandler,
    LocalIdentityProvider,
    NoteHandler,
    PageHandler,
    PersonHandler,
    ReportHandler,
    StartHandler,
    TokenIdentityProvider,
)
from mlops_kit.project.config.services import PeopleConfig
from mlops_kit.project.loader import Project

with import_from_extra("dashboards"):
    from jupyter_core.utils import run_sync
    from jupyter_server.auth.identity import IdentityProvider
    from jupyter_server.base.handlers import Template404
    from jupyter_server.utils import url_path_join
    from tornado.httpserver import HTTPServer
    from tornado.ioloop import IOLoop
    from tornado.netutil import bind_sockets
    from tornado.routing import Router
    from traitlets.config import Config
    from voila.app import Voila
    from voila.request_info_handler import RequestInfoSocketHandler

_MAX_STARTUP_SECONDS = 30  # that the kernels of the pages are waited for
_POLL_SECONDS = 0.05
_IDLE_KERNEL_SECONDS = 600  # a page with live widgets that nobody looks at any more
_IDLE_CHECK_SECONDS = 60
# Voilà's own addresses, which show more than the dashboards.
_CLOSED_ADDRESSES = ("/voila/tree", "/voila/render", "/voila/files", "api/contents")
_FIRST_PAGE = "review"
_DASHBOARDS_FOLDER = "dashboards"
_LINKED_NOTEBOOKS_FOLDER = ".mlops/dashboards"
# Front-end extensions that a page with live widgets needs.
_FRONT_END_EXTENSIONS = [
    "@jupyter-widgets/jupyterlab-manager",
    "@voila-dashboards/widgets-manager8",
]


def _return_nothing() -> None:
    """Do nothing."""


def _return_no_note() -> str:
    """Return no note."""
    return ""


@dataclass(frozen=True)
class ServerCallbacks:
    """What the caller of the server does.

    Attributes
    ----------
    actions : mapping
        What each decision does: given the person's name and the values that the page sent, it
        returns the sentence that answers.
    report_ready : callable
        Gets the addresses of the pages once they can be opened.
    warm_up : callable
        Called then, in a thread: loads what the first decision would wait for.
    get_note : callable
        Returns what a page should show though its kernel does not know it; empty if nothing.
    """

    actions: Mapping[str, DecisionAction]
    report_ready: Callable[[list[str]], object] = print
    warm_up: Callable[[], object] = _return_nothing
    get_note: Callable[[], str] = _return_no_note


class PrefixRouter(Router):
    """Adds the path prefix of the pages to requests from which a proxy has removed it.

    Parameters
    ----------
    app : tornado.web.Application
        The application, which expects the prefix.
    base_path : str
        The prefix, with a slash at both ends.
    """

    def __init__(self, app: Any, base_path: str) -> None:
        self.app = app
        self.base_path = base_path

    def find_handler(self, request: Any, **options: Any) -> Any:
        """Return what handles a request."""
        if f"{request.path}/" == self.base_path:
            request.path += "/"
        elif not request.path.startswith(self.base_path):
            request.path = url_path_join(self.base_path, request.path)
            request.uri = url_path_join(self.base_path, request.uri)
        return self.app.find_handler(request, **options)


class DashboardServer(Voila):  # type: ignore[misc]
    """Voilà with the decisions, and without its tree, its files and its contents."""

    project: Project
    callbacks: ServerCallbacks
    sockets: Sequence[socket.socket] = ()

    def init_settings(self) -> dict[str, Any]:
        """Return what every handler knows; on loopback, other host names are refused."""
        settings: dict[str, Any] = super().init_settings()
        environment = settings["jinja2_env"]
        own_templates = FileSystemLoader(get_template_folder())
        environment.loader = ChoiceLoader([own_templates, environment.loader])
        dashboard = self.project.config.dashboard
        names = [notebook.stem for notebook in Path(self.root_dir).glob("*.ipynb")]
        own_settings = {
            "actions": dict(self.callbacks.actions),
            "people": self.project.config.people,
            "page_streams": {},
            "tasks": set(),
            "decision_count": 0,
            "pages": sorted(names, key=lambda name: (name != _FIRST_PAGE, name)),
            "get_note": self.callbacks.get_note,
            "compress_response": True,
            "default_handler_class": Template404,
            "allow_remote_access": not is_loopback(self.ip),
            "local_hostnames": ["localhost", *filter(None, [dashboard.public_hostname])],
            "allow_origin": dashboard.public_origin,
        }
        return settings | own_settings

    def init_handlers(self) -> list[Any]:
        """Return our handlers, then those of Voilà's that a page needs."""
        voila_handlers = []
        for handler in super().init_handlers():
            is_closed = any(address in handler[0] for address in _CLOSED_ADDRESSES)
            if not is_closed and handler[0] != self.server_url:
                voila_handlers.append(handler)
        join = partial(url_path_join, self.server_url)
        page_settings = {
            "template_paths": self.template_paths,
            "config": self.config,
            "voila_configuration": self.voila_configuration,
        }
        report_settings = {"path": str(self.project.reports_folder)}
        page_names = "|".join(re.escape(name) for name in self.app.settings["pages"])
        return [
            (join("/mlops/me"), PersonHandler),
            (join("/mlops/decide"), DecisionHandler),
            (join("/mlops/note"), NoteHandler),
            (join("/"), StartHandler),
            (join(r"/reports/(.*\.html)"), ReportHandler, report_settings),
            (join(rf"/({page_names})"), PageHandler, page_settings),
            *voila_handlers,
        ]

    def listen(self) -> None:
        """Serve on the bound sockets until the process is told to stop."""
        HTTPServer(PrefixRouter(self.app, self.base_url)).add_sockets(self.sockets)
        self.ioloop = IOLoop.current()
        self.ioloop.add_callback(self._report_ready)
        try:
            self.ioloop.start()
        except KeyboardInterrupt:
            self.log.info("stopped")
        finally:
            self.stop()

    def stop(self) -> None:
        """End all kernels at once; one that waits for a visitor has nothing to finish."""
        run_sync(self.kernel_manager.shutdown_all)(now=True)
        shutil.rmtree(self.connection_dir, ignore_errors=True)

    async def _report_ready(self) -> None:
        """Report the addresses of the pages once a kernel of each is ready."""
        pages = self.app.settings["pages"]
        start = time.monotonic()
        while time.monotonic() - start < _MAX_STARTUP_SECONDS:
            if all(self._is_page_ready(page) for page in pages):
                break
            await asyncio.sleep(_POLL_SECONDS)
        self.callbacks.report_ready([f"{self._url(self.ip)}{page}" for page in pages])
        await IOLoop.current().run_in_executor(None, self.callbacks.warm_up)

    def _is_page_ready(self, page: str) -> bool:
        """Return whether a kernel waits for a visitor of this page.

        A project's own page may not wait; then its kernel has executed the notebook already.
        """
        for future in self.kernel_manager._pools.get(f"{page}.ipynb", []):
            if not future.done() or future.cancelled() or future.exception() is not None:
                continue
            kernel = future.result()
            is_waiting = kernel["kernel_id"] in RequestInfoSocketHandler._waiters
            if kernel["task"].done() or is_waiting:
                return True
        return False


def find_notebook_folder(project: Project) -> Path:
    """Return a folder with the notebooks of all pages.

    It is the package's. If the project has notebooks of its own for some pages, it is a folder with
    links to these and to the package's for the others. Servers that start at the same time, or are
    running, read the same links: each is replaced at once, and none is missing in between.
    """
    packaged_folder = project.package_notebooks_folder / _DASHBOARDS_FOLDER
    own_folder = project.own_notebooks_folder / _DASHBOARDS_FOLDER
    if own_folder == packaged_folder or not any(own_folder.glob("*.ipynb")):
        return packaged_folder
    linked_folder = project.resolve_path(_LINKED_NOTEBOOKS_FOLDER)
    linked_folder.mkdir(parents=True, exist_ok=True)
    names = {
        path.name for folder in (packaged_folder, own_folder) for path in folder.glob("*.ipynb")
    }
    with tempfile.TemporaryDirectory(dir=linked_folder, prefix=".links-") as new_links:
        for name in names:
            link = Path(new_links) / name
            link.symlink_to(project.find_notebook(f"{_DASHBOARDS_FOLDER}/{name}"))
            link.replace(linked_folder / name)
    for link in linked_folder.glob("*.ipynb"):
        if link.name not in names:
            link.unlink(missing_ok=True)
    return linked_folder


def take_token(variable: str) -> str:
    """Take the token out of this process's environment, so that no kernel inherits it.

    Raises
    ------
    KitError
        If the variable is not set.
    """
    if not variable:
        return ""
    if not os.environ.get(variable):
        raise KitError(
            f"the environment variable {variable!r} is not set",
            "the token that gives access to the dashboards",
            f"export {variable}=…",
        )
    return os.environ.pop(variable)


def load_identity_provider(name: str, people: PeopleConfig) -> type[IdentityProvider]:
    """Load the class that identifies people: ours, or one named as ``package.module.Class``.

    Parameters
    ----------
    name : str
        ``dashboard.identity_provider``.
    people : PeopleConfig
        The people who have tokens, if that is how they are identified.

    Raises
    ------
    KitError
        If there is no such class, or it is not an identity provider.
    """
    if not name and people.identity == "token":
        TokenIdentityProvider.people = people
        return TokenIdentityProvider
    if not name:
        return LocalIdentityProvider
    hint = "edit dashboard.identity_provider in mlops.yaml"
    module, _, class_name = name.rpartition(".")
    try:
        provider = getattr(importlib.import_module(module), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise KitError(
            f"the identity provider {name!r} cannot be loaded: {error}",
            "a class, as package.module.Class",
            hint,
        ) from error
    if not (isinstance(provider, type) and issubclass(provider, IdentityProvider)):
        raise KitError(
            f"the identity provider {name!r} is not an IdentityProvider",
            "a subclass of jupyter_server.auth.identity.IdentityProvider",
            hint,
        )
    return provider


def bind_port(port: int, host: str) -> list[socket.socket]:
    """Bind the sockets to listen on.

    Raises
    ------
    KitError
        If the port is taken, or the address is not one of this computer.
    """
    try:
        return bind_sockets(port, host)
    except OSError as error:
        raise KitError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            "a free port of this computer",
            "mlops dashboard --port 0 takes any free port",
        ) from error


def make_voila_config(project: Project, token: str) -> Config:
    """Make Voilà's settings: our template, and preheated kernels that are reached by sockets."""
    config = Config()
    config.Voila.root_dir = str(find_notebook_folder(project))
    config.Voila.token = token
    config.Voila.base_url = project.config.dashboard.base_path
    config.Voila.open_browser = False
    config.Voila.log_level = "ERROR"
    config.VoilaConfiguration.template = "mlops"
    config.VoilaConfiguration.theme = "light"
    config.VoilaConfiguration.preheat_kernel = True
    config.VoilaConfiguration.default_pool_size = project.config.dashboard.ready_kernels
    config.VoilaConfiguration.allow_template_override = "NO"
    config.VoilaConfiguration.allow_theme_override = "NO"
    config.VoilaConfiguration.extension_allowlist = _FRONT_END_EXTENSIONS
    config.VoilaKernelManager.fill_delay = 0.1
    config.MappingKernelManager.cull_idle_timeout = _IDLE_KERNEL_SECONDS
    config.MappingKernelManager.cull_interval = _IDLE_CHECK_SECONDS
    config.KernelManager.transport = "ipc"
    # A kernel that is started again has executed nothing; PageHandler replaces it.
    config.KernelManager.autorestart = False
    return config


def start_server(
    project: Project, callbacks: ServerCallbacks, port: int | None = None, host: str = ""
) -> None:
    """Serve the project's dashboards until the process is told to stop.

    Parameters
    ----------
    port, host
        Override those in mlops.yaml.

    Raises
    ------
    KitError
        If the port is taken, or others could reach the pages and nothing identifies them.
    MissingExtraError
        If the libraries of the dashboards are not installed.
    """
    require_extra("dashboards")
    settings = project.config.dashboard
    host = host or settings.host
    port = settings.port if port is None else port
    token = take_token(settings.token_env)
    identity_provider = load_identity_provider(settings.identity_provider, project.config.people)
    is_open = not token and identity_provider is LocalIdentityProvider
    hosts = [host, *filter(None, [settings.public_hostname])]
    public_hosts = [name for name in hosts if name != "localhost" and not is_loopback(name)]
    if is_open and public_hosts:
        raise KitError(
            f"the dashboards would be open to everybody who reaches {public_hosts[0]}",
            "a token or an identity provider",
            "set dashboard.token_env or dashboard.identity_provider in mlops.yaml, or listen on "
            "127.0.0.1",
        )
    sockets = bind_port(port, host)
    os.environ["MLOPS_PROJECT"] = str(project.root)
    _add_jupyter_path(find_resource_folder("templates"))
    LocalIdentityProvider.is_local = not public_hosts
    server = DashboardServer(
        config=make_voila_config(project, token),
        identity_provider_class=identity_provider,
        ip=host,
        port=sockets[0].getsockname()[1],
    )
    server.project = project
    server.callbacks = callbacks
    server.sockets = sockets
    server.initialize(argv=[])
    server.start()


def _add_jupyter_path(folder: Path) -> None:
    """Let Jupyter find our templates."""
    paths = [str(folder)]
    inherited = os.environ.get("JUPYTER_PATH")
    if inherited:
        paths.append(inherited)
    os.environ["JUPYTER_PATH"] = os.pathsep.join(paths)
