"""An extension of qcore with one of each kind: a broker, a result store, a pool, a service of the worker,
control commands, a scheduler, and commands of `qctl`. The entry points are in pyproject.toml."""
