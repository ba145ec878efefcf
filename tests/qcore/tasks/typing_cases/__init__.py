"""Modules for mypy and pyright only; test_types.py checks them, and nothing imports them."""
