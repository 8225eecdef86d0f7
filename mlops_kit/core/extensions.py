"""Registries of decorated functions: how metrics, checks and other extensions are added.

Extensions come from this package and from plugins, modules that a project names under ``plugins``
in ``mlops.yaml`` or that are installed under the entry-point group ``mlops_kit.plugins``
(``mlops_kit.project.plugins``). A plugin may be expensive to import, so it is imported only when a
registry needs it: for a name that is not registered yet, or to iterate over all names. What plugins
register is known before (``declared_extensions``).
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from mlops_kit.core import dependencies
from mlops_kit.core.errors import KitError, RunFailedError, suggest_names

_T = TypeVar("_T")
_PACKAGE_NAME = "mlops_kit"


class ExtensionKind(StrEnum):
    """What plugins may register, as messages name it."""

    METRIC = "metric"
    MODEL_FAMILY = "model family"
    MODEL_TYPE = "trusted model type"
    DRIFT_TEST = "drift test"
    REVIEW_CHECK = "review check"
    RETRAINING_RULE = "retraining rule"
    READER = "file ending"
    DATASET = "dataset"
    INCIDENT_SIGNAL = "incident signal"
    ALERT_SINK = "alert sink"
    DASHBOARD_PANEL = "dashboard panel"


_EnumT = TypeVar("_EnumT", bound=StrEnum)


def convert_option(members: type[_EnumT], value: str, option: str) -> _EnumT:
    """Convert an option of a decorator, such as a severity, to its member.

    Raises
    ------
    KitError
        If there is no such member.

    Examples
    --------
    >>> convert_option(ExtensionKind, "metric", "kind")
    <ExtensionKind.METRIC: 'metric'>
    """
    try:
        return members(value)
    except ValueError:
        expected = [f"{members.__name__}.{member.name} ({member.value!r})" for member in members]
        raise KitError(
            f"the {option} {value!r} is unknown",
            f"one of: {', '.join(expected)}",
            f"correct the {option} where the extension is registered",
        ) from None


class DeclaredExtension(NamedTuple):
    """What a plugin registers.

    Attributes
    ----------
    plugin : str
        The plugin's module.
    kind : str
        The registry's kind, such as ``metric``.
    name : str
        The name under which it is registered.
    applies_to : tuple of str
        The tasks, or the kinds of column, that it is for; empty: all.
    """

    plugin: str
    kind: str
    name: str
    applies_to: tuple[str, ...] = ()


# What the plugins of the current project register, whether or not they have been imported.
declared_extensions: list[DeclaredExtension] = []
# The modules of the current project's plugins.
active_plugins: list[str] = []
# The plugins that are being imported, the innermost last.
_plugins_being_imported: list[str] = []


class _Registration(NamedTuple):
    """What a module outside this package registered, and the plugin that was being imported."""

    module: str
    importing_plugin: str
    extension: DeclaredExtension

    @property
    def owner(self) -> str:
        """The plugin that the module belongs to; else the one that imported it; else itself."""
        owners = [name for name in active_plugins if f"{self.module}.".startswith(f"{name}.")]
        if owners:
            return max(owners, key=len)
        return self.importing_plugin or self.module


_registrations: list[_Registration] = []
_registries: list[ExtensionRegistry[Any]] = []
_plugin_importers: list[Callable[[str], None]] = []


class ExtensionRegistry(MutableMapping[str, _T]):
    """Registered objects by name; looking up an unknown name raises an error that lists the names.

    Parameters
    ----------
    kind : str
        What is registered, as error messages name it; an ``ExtensionKind`` if plugins may.

    Examples
    --------
    >>> metrics = ExtensionRegistry("metric")
    >>> @metrics.register("mae")
    ... def compute_mae(y, score): return abs(y - score)
    >>> list(metrics)
    ['mae']
    >>> metrics["maee"]
    Traceback (most recent call last):
    mlops_kit.core.errors.KitError: unknown metric 'maee'
      Expected: 'mae' (of: mae)
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, _T] = {}
        self._applies_to: dict[str, tuple[str, ...]] = {}
        self.is_open_to_plugins = isinstance(kind, ExtensionKind)
        if self.is_open_to_plugins:
            _registries.append(self)

    def register(self, name: str, applies_to: Iterable[str] = ()) -> Callable[[_T], _T]:
        """Return a decorator that registers an object under a name that is still free.

        Parameters
        ----------
        applies_to : iterable of str
            The tasks, or the kinds of column, that the extension is for; empty: all.

        Raises
        ------
        KitError
            From the decorator, if the name is taken.
        """

        def add_extension(extension: _T) -> _T:
            if name in self._entries:
                raise KitError(
                    f"the {self.kind} {name!r} is registered twice; the first one is from "
                    f"{self._find_origin(name)}",
                    f"a name that no other {self.kind} has, whatever it applies to",
                    "rename the second one",
                )
            self._entries[name] = extension
            self._applies_to[name] = tuple(applies_to)
            module = _find_registering_module() if self.is_open_to_plugins else ""
            if module:
                plugin = _plugins_being_imported[-1] if _plugins_being_imported else ""
                declared = DeclaredExtension("", self.kind, name, self._applies_to[name])
                _registrations.append(_Registration(module, plugin, declared))
            return extension

        return add_extension

    def __getitem__(self, name: str) -> _T:
        if name not in self._entries:
            self._import_plugins(self._list_declared(name))
        if name not in self._entries:
            raise KitError(f"unknown {self.kind} {name!r}", suggest_names(name, self))
        self._record_use([name])
        return self._entries[name]

    def __setitem__(self, name: str, extension: _T) -> None:
        self._entries[name] = extension

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._import_plugins(self._list_declared())
        self._record_use(self._entries)
        dependencies.record_extensions_listed(self.kind)
        return iter(list(self._entries))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        if name in self._entries:
            return True
        return any(declared.name == name for declared in self._list_declared())

    def get(self, name: str, default: _T | None = None) -> _T | None:  # type: ignore[override]
        """Return an extension, or a default if the name is unknown."""
        if name not in self:
            return default
        return self[name]

    def list_names(self, applicable_to: str = "") -> list[str]:
        """List the registered names, those of plugins last, without importing a plugin.

        Parameters
        ----------
        applicable_to : str
            Only what is for this task, or this kind of column; empty: everything.
        """
        dependencies.record_extensions_listed(self.kind)
        scopes = {name: self._applies_to.get(name, ()) for name in self._entries}
        for declared in self._list_declared():
            scopes.setdefault(declared.name, declared.applies_to)
        return [name for name, scope in scopes.items() if _is_applicable(scope, applicable_to)]

    def _list_declared(self, name: str | None = None) -> list[DeclaredExtension]:
        return [
            declared
            for declared in declared_extensions
            if declared.kind == self.kind and name in {None, declared.name}
        ]

    def _import_plugins(self, declared: list[DeclaredExtension]) -> None:
        """Import the plugins that register these extensions."""
        missing = [extension for extension in declared if extension.name not in self._entries]
        for plugin in dict.fromkeys(extension.plugin for extension in missing):
            for import_plugin in _plugin_importers:
                import_plugin(plugin)

    def _record_use(self, names: Iterable[str]) -> None:
        """Record that the running stage uses the plugins that registered these names."""
        if not declared_extensions:
            return
        used_names = set(names)
        for declared in self._list_declared():
            if declared.name in used_names:
                dependencies.record_module_use(declared.plugin)

    def _find_origin(self, name: str) -> str:
        for registration in _registrations:
            extension = registration.extension
            if (extension.kind, extension.name) == (self.kind, name):
                return f"the module {registration.module!r}"
        return "mlops-kit"


def _find_registering_module() -> str:
    """Find the module that calls ``register``; empty if it is one of this package.

    A plugin that is being imported may be the first to import a module of this package, whose
    extensions are not the plugin's.
    """
    frame = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] != _PACKAGE_NAME:
            return module
        if frame.f_code.co_name == "<module>":
            return ""
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def list_declared(kind: str, applicable_to: str = "") -> list[str]:
    """List the names that plugins register in a registry, without importing one.

    Parameters
    ----------
    kind : str
        The registry's kind, such as ``metric``.
    applicable_to : str
        Only what is for this task, or this kind of column; empty: everything.
    """
    names = []
    for declared in declared_extensions:
        if declared.kind == kind and _is_applicable(declared.applies_to, applicable_to):
            names.append(declared.name)
    return names


def _is_applicable(scope: tuple[str, ...], wanted: str) -> bool:
    return not scope or not wanted or wanted in scope


def set_plugin_importer(import_plugin: Callable[[str], None]) -> None:
    """Set the function that imports a plugin; a registry calls it for a plugin that it needs."""
    _plugin_importers[:] = [import_plugin]


def import_extensions(plugin: str, import_module: Callable[[], object]) -> None:
    """Import a plugin; what it registers is its own. If that fails, nothing stays registered."""
    _plugins_being_imported.append(plugin)
    try:
        import_module()
    except BaseException:
        remove_registrations(plugin)
        raise
    finally:
        _plugins_being_imported.pop()


def list_registrations(plugin: str) -> list[DeclaredExtension]:
    """List what a plugin has registered in this process."""
    return [
        registration.extension._replace(plugin=plugin)
        for registration in _registrations
        if registration.owner == plugin
    ]


def remove_registrations(plugin: str) -> None:
    """Remove what a plugin has registered from the registries."""
    for removed in list_registrations(plugin):
        for registry in _registries:
            if registry.kind == removed.kind:
                registry._entries.pop(removed.name, None)
    _registrations[:] = [
        registration for registration in _registrations if registration.owner != plugin
    ]


@contextmanager
def name_failing_extension(kind: str, name: str) -> Iterator[None]:
    """Say which extension failed, if one raises an error within this context.

    Raises
    ------
    RunFailedError
        Instead of any error that is not meant for users.
    """
    try:
        yield
    except KitError:
        raise
    except Exception as error:
        raise RunFailedError(
            f"the {kind} {name!r} failed: {describe_exception(error)}",
            hint="correct the function that is registered under this name",
        ) from error


def describe_exception(error: BaseException) -> str:
    """Describe an exception in one line, also one that cannot describe itself."""
    return " ".join(traceback.format_exception_only(error)[-1].split())
