"""Find and import the app that the option -A names.

In:  'proj', 'proj:app', 'proj.app'.  Out: an App; or one built from a Celery app's configuration.
qcore never imports Celery: a Celery app is recognised by the names of its classes.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from qcore.app.app import App
from qcore.errors import AppNotFound, ConfigError, QcoreError

USUAL_NAMES = ("app", "qcore", "celery")


def find_app(name: str, workdir: str | None = None) -> App:
    """The app called `name`, searched from workdir (default: the current directory) and the Python path.

    Raises AppNotFound, and ConfigError if a setting of the app is wrong.
    """
    place = str(Path(workdir or ".").resolve())
    # After the standard library, so that a file called json.py in this directory does not shadow it.
    if place not in sys.path:
        sys.path.append(place)
    module_name, colon, attribute = name.partition(":")
    if not module_name:
        raise AppNotFound(name, "write -A MODULE or -A MODULE:NAME")
    if colon:
        return _as_app(name, _attribute(name, _module(name, module_name, place), attribute))
    module = _try_module(name, module_name)
    if module is None and "." in module_name:
        parent, _, attribute = module_name.rpartition(".")
        holder = _try_module(name, parent)
        if holder is not None and hasattr(holder, attribute):
            return _as_app(name, getattr(holder, attribute))
    if module is None:
        module = _module(name, module_name, place)
    return _as_app(name, _app_in(name, module))


def _module(name: str, module_name: str, place: str) -> ModuleType:
    found = _try_module(name, module_name)
    if found is None:
        raise AppNotFound(
            name, f"there is no module '{module_name}' in {place} or on the Python path (use --workdir?)"
        )
    return found


def _try_module(name: str, module_name: str) -> ModuleType | None:
    """The module, or None if it does not exist; raises AppNotFound if its import fails."""
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name and (module_name == exc.name or module_name.startswith(exc.name + ".")):
            return None
        raise AppNotFound(name, _broke(exc)) from exc
    except (TypeError, ValueError) as exc:
        if module_name.startswith(".") or not module_name.replace(".", "_").isidentifier():
            return None
        raise AppNotFound(name, _broke(exc)) from exc
    except AppNotFound as exc:
        raise AppNotFound(name, str(exc)) from exc
    except ConfigError as exc:
        raise ConfigError(f"the app '{name}' has a wrong setting: {exc}") from exc
    except QcoreError as exc:
        raise AppNotFound(name, str(exc)) from exc
    except (Exception, SystemExit) as exc:
        raise AppNotFound(name, _broke(exc)) from exc


def _broke(exc: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(exc.__traceback__) if "importlib" not in f.filename]
    if isinstance(exc, SyntaxError) and exc.filename:
        where = f" ({exc.filename}:{exc.lineno})"
    else:
        where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"importing it raised {type(exc).__name__}: {exc}{where}"


def _attribute(name: str, module: ModuleType, attribute: str) -> Any:
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise AppNotFound(name, f"the module '{module.__name__}' has no '{attribute}'{_offer(module)}")
        found = getattr(found, part)
    return found


def _app_in(name: str, module: ModuleType) -> Any:
    for usual in USUAL_NAMES:
        found = getattr(module, usual, None)
        if _is_app(found):
            return found
        if isinstance(found, ModuleType):
            inner = next((v for k in USUAL_NAMES if _is_app(v := getattr(found, k, None))), None)
            if inner is not None:
                return inner
    apps = {id(v): v for v in vars(module).values() if _is_app(v)}
    if len(apps) == 1:
        return next(iter(apps.values()))
    submodule = f"{module.__name__}.celery"
    if hasattr(module, "__path__") and importlib.util.find_spec(submodule) is not None:
        inner_module = _try_module(name, submodule)
        if inner_module is not None:
            return _app_in(name, inner_module)
    if apps:
        raise AppNotFound(name, f"the module '{module.__name__}' has {len(apps)} apps{_offer(module)}")
    raise AppNotFound(name, f"the module '{module.__name__}' holds no app; make one: app = App('{name}')")


def _offer(module: ModuleType) -> str:
    names = [k for k, v in vars(module).items() if _is_app(v)]
    return f"; say which: {', '.join(f'{module.__name__}:{n}' for n in names)}" if names else ""


def _is_app(value: Any) -> bool:
    return isinstance(value, App) or _is_celery(value)


def _is_celery(value: Any) -> bool:
    kinds = {f"{k.__module__}.{k.__name__}" for k in type(value).__mro__}
    return "celery.app.base.Celery" in kinds


def _as_app(name: str, found: Any) -> App:
    if isinstance(found, App):
        try:
            found.conf.load()
        except ConfigError as exc:
            raise ConfigError(f"the app '{name}' has a wrong setting: {exc}") from exc
        except Exception as exc:
            raise AppNotFound(name, _broke(exc).replace("importing it", "reading its settings")) from exc
        return found
    if _is_celery(found):
        return _from_celery(found)
    if isinstance(found, ModuleType):
        return _as_app(name, _app_in(name, found))
    raise AppNotFound(name, f"that is a {type(found).__name__}, not an app")


#: settings of a Celery app that determine its broker, its result backend, its queues and its exchanges
_FROM_CELERY = (
    "broker_url broker_transport_options broker_connection_timeout result_backend "
    "result_backend_transport_options result_expires task_default_queue task_default_exchange "
    "task_default_routing_key task_routes task_serializer accept_content control_exchange event_exchange"
).split()


def _from_celery(celery: Any) -> App:
    """An App with a Celery app's configuration, to inspect and control its fleet.

    It has none of the Celery app's tasks: it can publish calls by name and inspect, and cannot run a worker.
    """
    app = App(celery.main)
    for key in _FROM_CELERY:
        value = getattr(celery.conf, key, None)
        if value is not None:
            try:
                app.conf[key] = value
            except ConfigError:
                continue  # a form that only Celery accepts; the default applies
    if not celery.conf.broker_url:
        app.conf["broker_url"] = "amqp://guest:guest@localhost:5672//"  # Celery's own default
    app.is_celery = True
    return app
