"""Parsing, safety checks, progress and error reports of command lines."""
