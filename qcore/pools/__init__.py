"""Pools: where tasks run. One file each, named as with `--pool`."""
