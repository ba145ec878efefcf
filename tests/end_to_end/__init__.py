"""Whole fleets, as their users run them."""
