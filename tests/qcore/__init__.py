"""Qcore."""
