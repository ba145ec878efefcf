"""Where a project sets settings: keywords of apps, `app.conf`, modules that config_from_object() names.

In:  a Project.  Out: Uses, and Findings about configurations that cannot be read.
After this: settings_checks.py.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, NamedTuple

from qcore.base.keywords import APP, APP_OF_CELERY
from qctl.commands.check.findings import ERROR, NOTE, Finding
from qctl.commands.check.source import Module, Project, assignments

#: the class of an app under its names
CLASSES = frozenset(("celery.Celery", "celery.app.Celery", "celery.app.base.Celery"))
#: keywords of Celery() that are settings under another name
KEYWORDS = {"broker": "broker_url", "backend": "result_backend"}
#: keywords that Celery() takes here although an App does not; `tasks` only as None
_PARTS = frozenset("loader amqp events log control fixups autofinalize".split())
#: names of apps in files that do not import Celery
_APPS = ("app", "celery", "celery_app", "current_app", "capp")
DJANGO = "DJANGO_SETTINGS_MODULE"
#: the module that Celery's default loader reads
USUAL = "celeryconfig"


class Use(NamedTuple):
    """One setting that a project sets.

    name: as qcore gets it; written: as the file has it; is_strict: whether a misspelling stops the app;
    is_old_safe: whether `written` may be replaced by a current name."""

    module: Module
    node: ast.expr | ast.keyword
    name: str
    written: str
    value: Any
    value_node: ast.expr
    is_strict: bool = True
    is_old_safe: bool = True


class Settings:
    """All settings of a project. apps: the calls that make an app; found: what cannot be read."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.uses: list[Use] = []
        self.apps: list[tuple[Module, ast.Call]] = []
        self.found: list[Finding] = []
        #: whether every configuration could be read
        self.is_complete = True
        self._read: set[tuple[str, str]] = set()
        for module in project.modules:
            self._of_calls(module)
            self._of_assignments(module)
        for module in project.modules:
            if module.path.stem == USUAL and (module.file, "") not in self._read:
                self._of_module(module, "")

    # --- app.conf

    def _of_assignments(self, module: Module) -> None:
        for node in module.nodes:
            targets = node.targets if isinstance(node, ast.Assign) else []
            for target in targets:
                assert isinstance(node, ast.Assign)
                if isinstance(target, ast.Attribute) and _is_conf(module, target.value):
                    self._add(module, target, target.attr, target.attr, node.value)
                elif isinstance(target, ast.Subscript) and _is_conf(module, target.value):
                    key = target.slice
                    if isinstance(key, ast.Constant) and isinstance(key.value, str):
                        self._add(module, key, key.value, key.value, node.value)

    def _of_calls(self, module: Module) -> None:
        subclasses = {
            n.name
            for n in module.nodes
            if isinstance(n, ast.ClassDef) and any(module.dotted(b) in CLASSES for b in n.bases)
        }
        for node in module.nodes:
            if not isinstance(node, ast.Call):
                continue
            called = module.dotted(node.func)
            if called in CLASSES or called in subclasses:
                self._of_app(module, node, called in CLASSES)
            elif isinstance(node.func, ast.Attribute):
                self._of_method(module, node, node.func)

    def _of_method(self, module: Module, call: ast.Call, func: ast.Attribute) -> None:
        if func.attr in ("update", "add_defaults") and _is_conf(module, func.value):
            for arg in call.args:
                self._of_mapping(module, arg)
            for keyword in call.keywords:
                if keyword.arg:
                    self._add(module, keyword, keyword.arg, keyword.arg, keyword.value)
                else:
                    self._of_mapping(module, keyword.value)
        elif func.attr == "setdefault" and _is_conf(module, func.value) and len(call.args) == 2:
            key = call.args[0]
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                self._add(module, key, key.value, key.value, call.args[1])
        elif func.attr == "config_from_object":
            self._of_object(module, call)
        elif func.attr in ("config_from_envvar", "config_from_cmdline"):
            self._unread(module, call, f"{func.attr}() names a configuration outside of the program")

    def _of_mapping(self, module: Module, node: ast.expr) -> None:
        if isinstance(node, ast.Name) and node.id in module.constants:
            node = module.constants[node.id]
        if isinstance(node, ast.Call) and module.dotted(node.func) == "dict":
            for keyword in node.keywords:
                if keyword.arg:
                    self._add(module, keyword, keyword.arg, keyword.arg, keyword.value)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    self._add(module, key, key.value, key.value, value)
                elif key is None:
                    self._of_mapping(module, value)
        else:
            self._unread(module, node, f"the settings in {_shown(node)} are known when it runs")

    # --- Celery(...)

    def _of_app(self, module: Module, call: ast.Call, is_celery: bool) -> None:
        self.apps.append((module, call))
        values = [arg for arg in call.args[1:] if not (isinstance(arg, ast.Constant) and arg.value is None)]
        if values and is_celery:
            what = "Celery() takes its name by position, and everything else by keyword"
            self.found.append(
                Finding(
                    ERROR, module.file, call.lineno, "Celery", what, "write broker=…, backend=… and so on"
                )
            )
        for keyword in call.keywords:
            name = keyword.arg
            if name is None:
                self.is_complete = False
            elif name == "config_source":
                self._source(module, call, keyword.value, call)
            elif name in KEYWORDS:
                self._add(module, keyword, KEYWORDS[name], name, keyword.value, is_old_safe=False)
            elif name in APP or name in _PARTS:
                continue
            elif name in APP_OF_CELERY:
                if not (isinstance(keyword.value, ast.Constant) and keyword.value.value is None):
                    what = f"an app has no keyword '{name}'"
                    self.found.append(Finding(ERROR, module.file, keyword.lineno, name, what, "leave it out"))
            elif is_celery or "_" in name:
                self._add(module, keyword, name, name, keyword.value)

    # --- config_from_object()

    def _of_object(self, module: Module, call: ast.Call) -> None:
        source = call.args[0] if call.args else None
        source = next((k.value for k in call.keywords if k.arg == "obj"), source)
        if source is not None:
            self._source(module, call, source, call)

    def _source(self, module: Module, call: ast.Call, source: ast.expr, about: ast.expr) -> None:
        space = module.value(next((k.value for k in call.keywords if k.arg == "namespace"), None))
        namespace = space if isinstance(space, str) else ""
        name = module.value(source)
        if isinstance(name, str):
            self._of_place(module, name, namespace, about)
        elif isinstance(source, ast.Dict) or isinstance(name, dict):
            self._of_mapping(module, source)
        elif isinstance(source, ast.Name):
            self._of_name(module, source, namespace)
        elif (key := _last_key(source)) is not None and self._of_key(key):
            return
        else:
            self._unread(module, about, f"the configuration {_shown(source)} is known when it runs")

    def _of_place(self, module: Module, place: str, namespace: str, about: ast.expr) -> None:
        """`pkg.mod`, `pkg.mod:Class`, `pkg.mod.Class`, `django.conf:settings`."""
        if place.replace(":", ".") == "django.conf.settings":
            self._of_django(module, namespace, about)
            return
        dotted, _, attribute = place.partition(":")
        found = self.project.module(dotted)
        if found is None and not attribute:
            dotted, _, attribute = dotted.rpartition(".")
            found = self.project.module(dotted) if dotted else None
        if found is None:
            self._unread(module, about, f"the configuration '{place}' is not among these files")
        elif attribute:
            self._of_attribute(found, attribute, namespace, about)
        else:
            self._of_module(found, namespace)

    def _of_name(self, module: Module, source: ast.Name, namespace: str) -> None:
        where, name = module.imported.get(source.id, ("", ""))
        if not where:
            self._of_attribute(module, source.id, namespace, source)
        elif (where, name) == ("django.conf", "settings"):
            self._of_django(module, namespace, source)
        else:
            whole = f"{where}{'' if where.endswith('.') else '.'}{name}" if name else where
            found = self.project.module(whole, module)
            if found is not None:
                self._of_module(found, namespace)
            elif name and (found := self.project.module(where, module)) is not None:
                self._of_attribute(found, name, namespace, source)
            else:
                self._unread(module, source, f"the configuration '{whole}' is not among these files")

    def _of_attribute(self, module: Module, name: str, namespace: str, about: ast.expr) -> None:
        classes = [n for n in module.nodes if isinstance(n, ast.ClassDef) and n.name == name]
        if classes:
            self._of_body(module, classes[0].body, namespace)
        elif name in module.constants and isinstance(module.constants[name], ast.Dict | ast.Call):
            self._of_mapping(module, module.constants[name])
        else:
            self._unread(module, about, f"the configuration {name} is known when it runs")

    def _of_django(self, module: Module, namespace: str, about: ast.expr) -> None:
        """Django's settings: the module that a file of the project names, or each that is called settings."""
        names = {
            value
            for other in self.project.modules
            for node in other.nodes
            if isinstance(node, ast.Call)
            and node.args
            and other.value(node.args[0]) == DJANGO
            and isinstance(value := other.value(node.args[-1]), str)
            and value != DJANGO
        }
        found = [m for name in sorted(names) if (m := self.project.module(name)) is not None]
        if not found:
            found = [m for m in self.project.modules if "settings" in (m.path.stem, m.path.parent.name)]
        if not found:
            self._unread(module, about, "Django's settings are not among these files")
        for one in found:
            self._of_module(one, namespace)

    def _of_key(self, key: str) -> bool:
        """Whether a mapping with this name, `CELERY={…}` or config["CELERY"] = {…}, is in the project."""
        done = False
        for module in self.project.modules:
            for node in module.nodes:
                value: ast.expr | None = None
                if (isinstance(node, ast.keyword) and node.arg == key) or (
                    isinstance(node, ast.Assign) and any(key in _names(t) for t in node.targets)
                ):
                    value = node.value
                if isinstance(value, ast.Dict) or isinstance(module.value(value), dict):
                    assert value is not None
                    self._of_mapping(module, value)
                    done = True
        return done

    def _of_module(self, module: Module, namespace: str) -> None:
        if (module.file, namespace) in self._read:
            return
        self._read.add((module.file, namespace))
        for node in module.nodes:
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                name = "." * node.level + (node.module or "")
                if (base := self.project.module(name, module)) is not None:
                    self._of_module(base, namespace)
        self._of_body(module, module.tree.body, namespace)

    def _of_body(self, module: Module, body: list[ast.stmt], namespace: str) -> None:
        head = f"{namespace}_" if namespace else ""
        for name, target, value in assignments(body):
            if not namespace:
                if not name.startswith("_") and "_" in name.strip("_"):
                    self._add(module, target, name, name, value, is_strict=False)
            elif name.startswith(head):
                bare = name[len(head) :].lower()
                self._add(module, target, bare, name, value, is_old_safe=False)

    def _add(
        self,
        module: Module,
        node: ast.expr | ast.keyword,
        name: str,
        written: str,
        value: ast.expr,
        is_strict: bool = True,
        is_old_safe: bool = True,
    ) -> None:
        self.uses.append(Use(module, node, name, written, module.value(value), value, is_strict, is_old_safe))

    def _unread(self, module: Module, node: ast.expr, why: str) -> None:
        self.is_complete = False
        fix = "`qctl -A APP config ls` reads it, and `qctl -A APP doctor` names settings without effect"
        self.found.append(Finding(NOTE, module.file, node.lineno, "configuration", why, fix))


def _is_conf(module: Module, node: ast.expr) -> bool:
    """Whether an expression is the `conf` of an app."""
    if not isinstance(node, ast.Attribute) or node.attr != "conf":
        return False
    last = module.dotted(node.value).rpartition(".")[2].lower()
    return bool(module.names) or last in _APPS or "celery" in last


def _shown(node: ast.expr) -> str:
    """An expression as findings name it, without its constants: one of them may be a password."""
    if isinstance(node, ast.Call):
        return f"{_shown(node.func)}(…)"
    if isinstance(node, ast.Attribute):
        return f"{_shown(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "an expression"


def _last_key(node: ast.expr) -> str | None:
    """The key in `app.config["CELERY"]`, and the first argument in `app.config.get("CELERY")`."""
    key = node.slice if isinstance(node, ast.Subscript) else None
    if isinstance(node, ast.Call) and node.args:
        key = node.args[0]
    return key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else None


def _names(target: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Name):
        yield target.id
    elif (key := _last_key(target)) is not None:
        yield key
