"""Screens of the dashboard, and their keys."""
