"""Broker drivers: one package each, named as in the URL scheme."""
