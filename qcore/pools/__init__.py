"""Pools: how tasks run. One file each, named as with `--pool`."""
