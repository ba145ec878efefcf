"""Make the standard library cooperative, before any user code is imported.

The whole process is patched, locks and threads included: a greenlet that waits while it holds a lock
(a connection pool's, or ours around a request to the broker) would otherwise block its thread, and with it
the greenlet that releases the lock. The services of the worker become greenlets of the main thread,
which runs no user code; that has a thread of its own (pool.py).
"""

from __future__ import annotations

from qcore.errors import ConfigError


def patch() -> None:
    """Patch once, as early as possible. Raises ConfigError when gevent is not installed."""
    try:
        from gevent import monkey
    except ImportError:
        raise ConfigError("the gevent pool needs gevent: pip install 'qctl[gevent]'") from None
    if not monkey.is_module_patched("threading"):
        # The worker handles signals itself.
        monkey.patch_all(signal=False)


def is_patched() -> bool:
    """Whether patch() was called, here or by the user."""
    try:
        from gevent import monkey
    except ImportError:
        return False
    return bool(monkey.is_module_patched("time") and monkey.is_module_patched("threading"))
