"""Pools: what runs the jobs of a worker. Some need a standard library that is patched before all else."""

from __future__ import annotations

import importlib

#: names of the pools that patch it
PATCHED = ("eventlet", "gevent")


def patch_for(pool: str | None) -> None:
    """Patch the standard library if the pool of this name needs it; to be called before the app is imported.
    Raises ConfigError where the library of the pool is not installed."""
    if pool in PATCHED:
        importlib.import_module(f"{__name__}.{pool}.patch").patch()
