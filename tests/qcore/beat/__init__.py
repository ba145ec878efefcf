"""Tests of qcore.beat."""
