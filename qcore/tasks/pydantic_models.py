"""`pydantic=True` of a task: arguments become the models that its annotations name, a returned model data.

In:  a function and the options pydantic_….  Out: a function with the same signature, and dump(), which turns
the models of a caller into data before they are sent.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, cast

from qcore.errors import ConfigError


class Models:
    """The models among the annotations of a function, and how they are read and dumped.

    Raises ConfigError when pydantic is not installed.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        about: Mapping[str, Any],
        strict: bool = False,
        context: Mapping[str, Any] | None = None,
        dump_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """about: entries of the context that validators get, besides those of `context`."""
        try:
            self._base: Any = importlib.import_module("pydantic").BaseModel
        except ImportError:
            raise ConfigError("pydantic=True of a task needs pydantic: pip install pydantic") from None
        self._function, self._strict = function, strict
        self._context = {**(context or {}), **about}
        self._dump_kwargs = {"mode": "json", **(dump_kwargs or {})}
        self._signature = inspect.signature(function)
        try:
            hints = typing.get_type_hints(function)
        except (NameError, AttributeError, TypeError):  # names that are not there yet
            hints = {}
        given = {name: parameter.annotation for name, parameter in self._signature.parameters.items()}
        given["return"] = self._signature.return_annotation
        self._models = {name: self._model(hints.get(name, kind)) for name, kind in given.items()}

    def _model(self, annotation: Any) -> type | None:
        """The model of an annotation `Model` or `Model | None`."""
        if typing.get_origin(annotation) in (typing.Union, types.UnionType):
            kinds = [one for one in typing.get_args(annotation) if one is not type(None)]
            annotation = kinds[0] if len(kinds) == 1 else None
        is_class = isinstance(annotation, type) and typing.get_origin(annotation) is None
        return annotation if is_class and issubclass(annotation, self._base) else None

    def wrapped(self) -> Callable[..., Any]:
        """The function with models in and data out. Calls raise pydantic's ValidationError."""
        function = self._function
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                bound = self._read(args, kwargs)
                return self._dumped(await function(*bound.args, **bound.kwargs))

            return awaited

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            bound = self._read(args, kwargs)
            return self._dumped(function(*bound.args, **bound.kwargs))

        return called

    def _read(self, args: Any, kwargs: Any) -> inspect.BoundArguments:
        bound = self._signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if self._models.get(name) is not None and value is not None:
                bound.arguments[name] = self._validated(name, value)
        return bound

    def _validated(self, name: str, value: Any) -> Any:
        model: Any = self._models[name]
        return model.model_validate(value, strict=self._strict, context=self._context)

    def _dumped(self, value: Any) -> Any:
        model: Any = self._models["return"]
        if model is not None and isinstance(value, model):
            return value.model_dump(**self._dump_kwargs)
        return value

    def dump(self, args: Any, kwargs: Any, bind: bool) -> tuple[Any, Any]:
        """The arguments of a call with its models as data. A model stays as it is where the task would not
        get an equal one back; then the serializer refuses it."""
        if not any(isinstance(value, self._base) for value in (*args, *kwargs.values())):
            return args, kwargs
        kinds = {name: parameter.kind for name, parameter in self._signature.parameters.items()}
        names = [name for name, kind in kinds.items() if kind.value < 2][1 if bind else 0 :]
        sent = [self._sent(names[at], value) if at < len(names) else value for at, value in enumerate(args)]
        return sent, {name: self._sent(name, value) for name, value in kwargs.items()}

    def _sent(self, name: str, value: Any) -> Any:
        if not isinstance(value, self._base) or self._models.get(name) is None:
            return value
        if hasattr(type(value), "__json__"):
            return value
        try:
            data = cast(Any, value).model_dump(**self._dump_kwargs)
            return data if self._validated(name, data) == value else value
        except Exception:  # validators may need a worker; the serializer then names the value
            return value
