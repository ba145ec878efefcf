"""Servers, processes, terminals and simulated fleets for tests."""
