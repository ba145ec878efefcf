"""Contexts, configuration files and their order."""
