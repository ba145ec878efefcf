"""Celery's public modules by their names, as views on qcore: an unmodified Celery project runs here.

In:  `import celery` in a project.  Out: modules whose names are qcore's (views.py), after install().
`qctl` calls it before it loads the app; `python -m qcore.celery PROGRAM` does so for any Python program.
"""

from __future__ import annotations

from qcore.celery.install import install, is_installed

__all__ = ["install", "is_installed"]
