"""Plugins: modules that register extensions, loaded before the configuration is validated.

A plugin is a module of the project or an installed one. A project names its plugins in
``mlops.yaml`` (``plugins: [my_metrics]``); an installed package can name some under the entry-point
group ``mlops_kit.plugins``. Every process that loads a project knows them: commands, kernels, the
endpoint, the dashboards and the watch. The fork server does not: it imports no code of a project.

A plugin is imported once to learn what it registers. That is kept in ``.mlops/plugins.json`` with
the size and time of its files, so that the next process imports it only when one of its extensions
is used: a command with nothing to do does not wait for a heavy library that a plugin imports, and
a stage depends on a plugin only if it uses one of its extensions.

One project at a time has its plugins in a process. To load another one removes those of the first.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from mlops_kit.core import extensions, files
from mlops_kit.core.errors import KitError
from mlops_kit.core.extensions import DeclaredExtension

ENTRY_POINT_GROUP = "mlops_kit.plugins"
PLUGIN_INDEX_FILE = ".mlops/plugins.json"
_INDEX_VERSION = 1
_MODULE_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")

FileStamp = tuple[int, int]  # size in bytes and modification time in ns


class PluginError(KitError):
    """A plugin that cannot be imported, or that registers a name that is taken."""


@dataclass(frozen=True)
class PluginInfo:
    """What is known of a plugin.

    Attributes
    ----------
    module : str
        The name of its module.
    stamps : dict
        Size and time of the files that it consists of, by path.
    extensions : tuple of DeclaredExtension
        What it registers.
    """

    module: str
    stamps: dict[str, FileStamp] = field(default_factory=dict)
    extensions: tuple[DeclaredExtension, ...] = ()

    @property
    def is_current(self) -> bool:
        """Whether its files are as they were when it was imported."""
        if not self.stamps:
            return False
        return all(_get_stamp(path) == stamp for path, stamp in self.stamps.items())

    def to_record(self, root: Path) -> dict[str, Any]:
        """Return the fields as the index stores them: paths are relative to the project."""
        stamps = {}
        for path, stamp in self.stamps.items():
            is_own = Path(path).is_relative_to(root)
            stamps[os.path.relpath(path, root) if is_own else path] = list(stamp)
        return {
            "module": self.module,
            "stamps": stamps,
            "extensions": [list(extension) for extension in self.extensions],
        }

    @classmethod
    def from_record(
        cls,
        record: dict[str, Any],
        root: Path,
    ) -> PluginInfo:
        """Read what ``to_record`` returned, in a project that may have been moved or copied."""
        stamps = {}
        for path, (size, time_ns) in record["stamps"].items():
            stamps[str(root / path)] = (size, time_ns)
        declared = []
        for plugin, kind, name, applies_to in record["extensions"]:
            declared.append(DeclaredExtension(plugin, kind, name, tuple(applies_to)))
        return cls(record["module"], stamps, tuple(declared))


@dataclass
class _ActivePlugins:
    """The plugins of the project that this process has loaded last."""

    root: Path | None = None
    infos: dict[str, PluginInfo] = field(default_factory=dict)
    imported: dict[str, set[str]] = field(default_factory=dict)  # the modules that came with each


_active = _ActivePlugins()
_lock = threading.RLock()


def activate_plugins(root: Path, names: Any) -> None:
    """Make the plugins of a project, and the installed ones, available in this process.

    Parameters
    ----------
    root : Path
        The project's folder; its modules can be plugins.
    names : object
        The setting ``plugins``: a module name or a list of them.

    Raises
    ------
    PluginError
        If a plugin cannot be imported, or registers a name that is taken.
    KitError
        If the setting is not a list of module names.
    """
    modules = [*_find_installed_plugins(), *parse_plugin_names(names)]
    with _lock:
        if _active.root != root:
            deactivate_plugins()
            _active.root = root
        if not modules and not _active.infos:
            return
        _add_project_to_path(root)
        importlib.invalidate_caches()
        modules = list(dict.fromkeys(modules))
        # What belongs to which plugin depends on all of them, as one may import another.
        if list(_active.infos) != modules:
            for module in list(_active.infos):
                _forget_plugin(module)
        extensions.active_plugins[:] = modules
        index = _read_index(root, modules)
        was_index_current = True
        for module in modules:
            was_index_current &= _activate_plugin(module, index.get(module))
        _check_unique_names(_active.infos.values())
        if not was_index_current and (root / PLUGIN_INDEX_FILE).parent.is_dir():
            store_plugin_index(root)


def parse_plugin_names(names: Any) -> list[str]:
    """Return the module names of the setting ``plugins``.

    Raises
    ------
    KitError
        If it is not a list of module names.
    """
    if names is None:
        return []
    listed = [names] if isinstance(names, str) else names
    for name in listed if isinstance(listed, list) else [names]:
        if not isinstance(name, str) or not _MODULE_NAME.fullmatch(name):
            raise KitError(
                f"plugins: {name!r} is not the name of a module",
                "a list of modules of the project or of installed packages, such as [my_metrics]",
                "edit 'plugins' in mlops.yaml",
            )
    return list(listed)


def deactivate_plugins() -> None:
    """Remove the plugins of the current project from this process."""
    with _lock:
        for module in list(_active.infos):
            _forget_plugin(module)
        if _active.root is not None and str(_active.root) in sys.path:
            sys.path.remove(str(_active.root))
        _active.root = None
        extensions.active_plugins.clear()
        extensions.declared_extensions.clear()


def list_plugins() -> list[PluginInfo]:
    """List the plugins of the current project in the order in which they are loaded."""
    return list(_active.infos.values())


def import_plugin(module: str) -> None:
    """Import a plugin of the current project, if that has not been done.

    Raises
    ------
    PluginError
        If it cannot be imported, or registers a name that is taken.
    """
    with _lock:
        if module in _active.imported:
            return
        known_modules = set(sys.modules)
        _active.imported[module] = set()  # an import of the plugin may look an extension up
        try:
            _import_module(module)
        except BaseException:
            del _active.imported[module]
            _remove_modules(module, set(sys.modules) - known_modules)
            raise
        _active.imported[module] = {module, *(set(sys.modules) - known_modules)}
        _correct_declaration(module)


extensions.set_plugin_importer(import_plugin)


def _correct_declaration(module: str) -> None:
    """Correct what is known of a plugin that registered something else than the last time.

    That may depend on an environment variable or a file.
    """
    known = _active.infos.get(module)
    if known is None:
        return
    registered = tuple(extensions.list_registrations(module))
    if set(registered) == set(known.extensions):
        return
    _active.infos[module] = replace(known, extensions=registered)
    others = [other for other in extensions.declared_extensions if other.plugin != module]
    extensions.declared_extensions[:] = [*others, *registered]
    if _active.root is not None and (_active.root / PLUGIN_INDEX_FILE).exists():
        store_plugin_index(_active.root)


def _activate_plugin(module: str, indexed: PluginInfo | None) -> bool:
    """Make one plugin known; return whether the index was right about it.

    The plugin is imported unless the index, or an earlier import in this process, knows it as its
    files are now.
    """
    known = _active.infos.get(module)
    if known is not None and known.is_current:
        return True
    if known is not None:
        _forget_plugin(module)
    if indexed is not None and indexed.is_current:
        _remember_plugin(indexed)
        return True
    import_plugin(module)
    _remember_plugin(
        PluginInfo(
            module,
            _collect_stamps(module),
            tuple(extensions.list_registrations(module)),
        )
    )
    return False


def _remember_plugin(info: PluginInfo) -> None:
    _active.infos[info.module] = info
    extensions.declared_extensions.extend(info.extensions)


def _forget_plugin(module: str) -> None:
    """Remove a plugin's extensions, and its modules, so that another import runs them again."""
    _active.infos.pop(module, None)
    extensions.declared_extensions[:] = [
        declared for declared in extensions.declared_extensions if declared.plugin != module
    ]
    if module in _active.imported:
        extensions.remove_registrations(module)
        _remove_modules(module, _active.imported.pop(module))


def _remove_modules(plugin: str, names: Iterable[str]) -> None:
    """Remove a plugin, and modules of the project, from ``sys.modules``; other libraries stay."""
    for name in names:
        is_plugin = name == plugin or name.startswith(f"{plugin}.")
        is_own = _active.root is not None and _is_in_folder(name, _active.root)
        if is_plugin or is_own:
            sys.modules.pop(name, None)


def _is_in_folder(module: str, folder: Path) -> bool:
    path = getattr(sys.modules.get(module), "__file__", None)
    if not path or not Path(path).is_relative_to(folder):
        return False
    return "site-packages" not in Path(path).relative_to(folder).parts


def _import_module(module: str) -> None:
    """Import a plugin's module, and word what goes wrong."""
    hint = "correct the plugin, or remove it from 'plugins' in mlops.yaml"
    _check_name_is_free(module)
    try:
        # Output of the command line may be meant for another program.
        with contextlib.redirect_stdout(sys.stderr):
            extensions.import_extensions(module, lambda: importlib.import_module(module))
    except KitError as error:
        raise PluginError(
            f"the plugin {module!r} cannot be loaded: {error.message}{_find_place(error)}",
            error.expected,
            error.hint or hint,
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and _is_part_of(error.name, module):
            raise PluginError(
                f"the plugin {module!r} does not exist",
                f"a module in {_active.root} or an installed one",
                hint,
            ) from error
        raise PluginError(
            f"the plugin {module!r} cannot be imported: "
            f"{extensions.describe_exception(error)}{_find_place(error)}",
            "a module that can be imported",
            hint,
        ) from error
    if getattr(sys.modules[module], "__file__", None) is None:
        raise PluginError(
            f"the plugin {module!r} is a folder without an __init__.py",
            "a Python file, or a package",
            hint,
        )


def _is_part_of(name: str | None, module: str) -> bool:
    """Return whether a module that was not found is the plugin, or a package that contains it."""
    return name is not None and f"{module}.".startswith(f"{name}.")


def _check_name_is_free(module: str) -> None:
    """Check that no other module has the name of a plugin that is in the project.

    Raises
    ------
    PluginError
        Naming the file of the other module.
    """
    if _active.root is None or module not in sys.modules:
        return
    base = _active.root.joinpath(*module.split("."))
    own_files = [base.with_suffix(".py"), base / "__init__.py"]
    loaded = getattr(sys.modules[module], "__file__", None)
    has_own_file = any(file.exists() for file in own_files)
    if has_own_file and (loaded is None or Path(loaded) not in own_files):
        raise PluginError(
            f"the name of the plugin {module!r} is taken by {loaded or 'a module of Python'}",
            "a name that no other module has",
            "rename the plugin's file, and 'plugins' in mlops.yaml",
        )


def _find_place(error: BaseException) -> str:
    """Return file and line of the project's code that raised an error; empty if there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}, line {error.lineno})"
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if _active.root is not None and Path(frame.filename).is_relative_to(_active.root):
            place = f" ({frame.filename}, line {frame.lineno})"
    return place


def _check_unique_names(infos: Iterable[PluginInfo]) -> None:
    """Check that no two plugins register the same name.

    Raises
    ------
    PluginError
        Naming both plugins.
    """
    owners: dict[tuple[str, str], str] = {}
    for info in infos:
        for declared in info.extensions:
            owner = owners.setdefault((declared.kind, declared.name), info.module)
            if owner != info.module:
                raise PluginError(
                    f"the plugins {owner!r} and {info.module!r} both register the "
                    f"{declared.kind} {declared.name!r}",
                    "a name of its own for each",
                    "rename one of the two",
                )


def _add_project_to_path(root: Path) -> None:
    """Let modules of the project be imported, as in a notebook in its folder."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))


def _find_installed_plugins() -> list[str]:
    """Find the modules that installed packages name under the entry-point group."""
    found = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name)
    return list(dict.fromkeys(point.module for point in found))


def _collect_stamps(module: str) -> dict[str, FileStamp]:
    """Return size and time of a plugin's file and of the project's modules in memory."""
    paths = set()
    for name in list(sys.modules):
        is_plugin = name == module or name.startswith(f"{module}.")
        is_own = _active.root is not None and _is_in_folder(name, _active.root)
        path = getattr(sys.modules.get(name), "__file__", None)
        if path and (is_plugin or is_own):
            paths.add(path)
    stamps = {}
    for path in sorted(paths):
        stamp = _get_stamp(path)
        if stamp is not None:
            stamps[path] = stamp
    return stamps


def _get_stamp(path: str) -> FileStamp | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _read_index(root: Path, modules: list[str]) -> dict[str, PluginInfo]:
    """Read what earlier processes learned, unless it is missing, damaged or of other plugins."""
    try:
        stored = files.read_json(root / PLUGIN_INDEX_FILE)
        if stored["environment"] != _describe_environment(modules):
            return {}
        infos = [PluginInfo.from_record(record, root) for record in stored["plugins"]]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {info.module: info for info in infos}


def store_plugin_index(root: Path) -> None:
    """Store what is known of the plugins, so that kernels need not import all of them.

    Loading a project in which nothing has been run stores nothing: it writes no files.
    """
    if not _active.infos:
        return
    path = root / PLUGIN_INDEX_FILE
    environment = _describe_environment(list(_active.infos))
    records = [info.to_record(root) for info in _active.infos.values()]
    with contextlib.suppress(OSError):  # each process then imports the plugins
        files.write_json(path, {"environment": environment, "plugins": records})


def _describe_environment(modules: list[str]) -> list[Any]:
    """Return what an index is valid for: its format, Python, this package, and the plugins."""
    from mlops_kit import __version__

    return [_INDEX_VERSION, sys.version, sys.prefix, __version__, modules]
