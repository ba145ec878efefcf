"""Qctl."""
