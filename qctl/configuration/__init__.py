"""Contexts, configuration files and their precedence."""
