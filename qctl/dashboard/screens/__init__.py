"""Screens: what is open, and which keys it has."""
