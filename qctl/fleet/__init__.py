"""Queries about a fleet that commands and the dashboard share."""
