"""`conf`: settings of the worker, secrets hidden."""

from __future__ import annotations

from typing import Any

from qcore.config import masked
from qcore.control.commands.base import Arg, WorkerView, command


@command(
    "conf",
    kind="inspect",
    alias="dump_conf",
    args=(Arg("with_defaults", bool, False, False, "show every setting, not only the changed ones"),),
    signature="[include_defaults=False]",
)
def conf(worker: WorkerView, with_defaults: bool = False, **_: Any) -> Any:
    """Settings of the worker, secrets hidden."""
    conf = worker.app.conf
    return masked(dict(conf) if with_defaults else conf.changed())
