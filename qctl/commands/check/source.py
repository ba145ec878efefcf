"""The files of a project: which there are, their syntax trees, and the values that can be read in them.

In:  a directory or a file.  Out: a Project of Modules and other Texts. Nothing is imported or run.
After this: imports.py, settings_used.py, calls.py, command_lines.py.
"""

from __future__ import annotations

import ast
import os
import tokenize
import warnings
from collections.abc import Iterator, Mapping
from functools import cached_property
from io import BytesIO
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from qctl.commands.check.findings import NOTE, Finding

SKIPPED = frozenset("__pycache__ node_modules site-packages build dist venv env".split())
MAX_BYTES = 4 * 1024 * 1024
_NAMES = ("procfile", "dockerfile", "makefile", "justfile", "containerfile")
_ENDINGS = (".service", ".conf", ".ini", ".sh", ".yml", ".yaml", ".env", ".toml", ".dockerfile")


def is_service_file(path: PurePath) -> bool:
    """Whether a file may have the command lines of services: a Procfile, a unit of systemd, a script."""
    name = path.name.lower()
    return name.partition(".")[0] in _NAMES or name.endswith(_ENDINGS)


class Unknown:
    """A value that only running the program could tell. beginning: the text that it begins with, if known."""

    def __init__(self, beginning: str = "") -> None:
        self.beginning = beginning


class Text(NamedTuple):
    """A file that may have command lines in it."""

    file: str
    text: str


class Module:
    """One Python file. names: local name -> the dotted name of Celery's that it stands for."""

    def __init__(self, path: Path, file: str, text: str, tree: ast.Module, encoding: str) -> None:
        self.path, self.file, self.text, self.tree = path, file, text, tree
        self.encoding = encoding

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def names(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.partition(".")[0] == "celery":
                        found[alias.asname or "celery"] = alias.name if alias.asname else "celery"
            elif isinstance(node, ast.ImportFrom) and not node.level:
                if (node.module or "").partition(".")[0] != "celery":
                    continue
                found |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
        return found

    @cached_property
    def imported(self) -> dict[str, tuple[str, str]]:
        """Local name -> (module, name in it or '') of every import, relative ones with their dots."""
        found: dict[str, tuple[str, str]] = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                found |= {a.asname or a.name: (a.name, "") for a in node.names}
            elif isinstance(node, ast.ImportFrom):
                module = "." * node.level + (node.module or "")
                found |= {a.asname or a.name: (module, a.name) for a in node.names}
        return found

    @cached_property
    def constants(self) -> dict[str, ast.expr]:
        """The values of names that the file assigns once, at its top."""
        found: dict[str, ast.expr] = {}
        twice: set[str] = set()
        for name, _, value in assignments(self.tree.body):
            twice |= {name} & found.keys()
            found[name] = value
        return {name: value for name, value in found.items() if name not in twice}

    @cached_property
    def rebound(self) -> set[str]:
        """Names that something else than an import binds somewhere in the file."""
        found = {n.arg for n in self.nodes if isinstance(n, ast.arg)}
        found |= {n.id for n in self.nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        return found | {n.name for n in self.nodes if isinstance(n, kinds)}

    def dotted(self, node: ast.AST) -> str:
        """The dotted name of an expression, with names of Celery's in full; '' for anything else."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        return ".".join([self.names.get(node.id, node.id), *reversed(parts)])

    def value(self, node: ast.AST | None, depth: int = 8) -> Any:
        """The value of an expression where it can be read: literals, names of constants, and the defaults of
        environment variables. Unknown otherwise."""
        if node is None or not depth:
            return Unknown()
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            kind = {ast.List: list, ast.Tuple: tuple, ast.Set: list}[type(node)]
            return kind(self.value(item, depth - 1) for item in node.elts)
        if isinstance(node, ast.Dict):
            keys = [self.value(key, depth - 1) for key in node.keys]
            values = [self.value(value, depth - 1) for value in node.values]
            return {k: v for k, v in zip(keys, values, strict=True) if isinstance(k, str | int)}
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            number = self.value(node.operand, depth - 1)
            return -number if isinstance(number, int | float) else Unknown()
        if isinstance(node, ast.Name) and node.id in self.constants:
            return self.value(self.constants[node.id], depth - 1)
        if isinstance(node, ast.JoinedStr):
            first = node.values[0] if node.values else None
            return Unknown(str(first.value) if isinstance(first, ast.Constant) else "")
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
            return self.value(node.values[-1], depth - 1)
        if isinstance(node, ast.Call):
            if self.dotted(node.func) == "dict" and not node.args:
                return {k.arg: self.value(k.value, depth - 1) for k in node.keywords if k.arg}
            return self._default_of(node, depth)
        return Unknown()

    def _default_of(self, call: ast.Call, depth: int) -> Any:
        """The default in os.environ.get(NAME, DEFAULT), env(NAME, default=DEFAULT) and the like."""
        called = self.dotted(call.func)
        default = next((k.value for k in call.keywords if k.arg == "default"), None)
        if called.endswith(("environ.get", "getenv")) or called.partition(".")[0] in ("env", "config"):
            default = default or (call.args[1] if len(call.args) == 2 else None)
            if default is not None:
                return self.value(default, depth - 1)
        return Unknown()


def assignments(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr, ast.expr]]:
    """The names that statements assign, within `if`, `try` and `with` too: name, target, value."""
    for node in body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, target, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.target, node.value
        elif isinstance(node, ast.If | ast.Try | ast.With):
            for name in ("body", "orelse", "finalbody"):
                yield from assignments(getattr(node, name, []))
            for handler in getattr(node, "handlers", []):
                yield from assignments(handler.body)


class Project:
    """The files that were read. found: what is said of files that could not be."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modules: list[Module] = []
        self.texts: list[Text] = []
        self.found: list[Finding] = []
        for path in [root] if not root.is_dir() else _files(root):
            self._read(path)

    def _read(self, path: Path) -> None:
        is_python = path.suffix == ".py" or (path == self.root and not is_service_file(path))
        if not is_python and not is_service_file(path):
            return
        file = str(path)
        if path != self.root and not path.is_file():
            return  # a link to nothing, a socket
        if path.stat().st_size > MAX_BYTES:
            self._not_read(file, None, f"has more than {MAX_BYTES // 1024 // 1024} MiB")
            return
        try:
            raw = path.read_bytes()
            encoding = tokenize.detect_encoding(BytesIO(raw).readline)[0] if is_python else "utf-8"
            text = raw.decode(encoding)
            if is_python:
                with warnings.catch_warnings():  # of escapes in the strings of the project
                    warnings.simplefilter("ignore")
                    tree = ast.parse(text, file)
        except SyntaxError as exc:
            self._not_read(file, exc.lineno, f"is no Python {'.'.join(_version())}: {exc.msg}")
        except (ValueError, RecursionError, MemoryError) as exc:  # UnicodeDecodeError is a ValueError
            self._not_read(file, None, f"cannot be decoded: {exc}" if str(exc) else "is nested too deeply")
        except OSError as exc:
            if path == self.root:
                raise
            self._not_read(file, None, f"cannot be opened: {exc.strerror}")
        else:
            if is_python:
                self.modules.append(Module(path, file, text, tree, encoding))
            else:
                self.texts.append(Text(file, text))

    def _not_read(self, file: str, line: int | None, why: str) -> None:
        self.found.append(Finding(NOTE, file, line, "not read", f"the file {why}", "check it by hand"))

    @cached_property
    def _by_name(self) -> Mapping[str, list[Module]]:
        """Modules by the last part of their dotted names."""
        found: dict[str, list[Module]] = {}
        for module in self.modules:
            found.setdefault(_parts(module.path)[-1], []).append(module)
        return found

    def module(self, name: str, beside: Module | None = None) -> Module | None:
        """The module of a dotted name; one that begins with a dot is beside another. Of several with these
        last parts the one nearest to the root."""
        if name.startswith(".") and beside is not None:
            up = len(name) - len(name.lstrip("."))
            folder = beside.path
            for _ in range(up):
                folder = folder.parent
            base = folder.joinpath(*filter(None, name.lstrip(".").split(".")))
            wanted = (base.with_suffix(".py"), base / "__init__.py")
            return next((m for m in self.modules if m.path in wanted), None)
        parts = name.split(".")
        near = [m for m in self._by_name.get(parts[-1], []) if _parts(m.path)[-len(parts) :] == parts]
        return min(near, key=lambda m: len(m.path.parts), default=None)


def _parts(path: PurePath) -> list[str]:
    parts = list(path.with_suffix("").parts)
    return parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts


def _version() -> list[str]:
    import sys

    return [str(part) for part in sys.version_info[:2]]


def _files(root: Path) -> Iterator[Path]:
    """The files below a directory in order; none of virtual environments and hidden directories."""
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        folders[:] = sorted(
            f
            for f in folders
            if f not in SKIPPED and not f.startswith(".") and not (here / f / "pyvenv.cfg").exists()
        )
        yield from (here / name for name in sorted(names))
