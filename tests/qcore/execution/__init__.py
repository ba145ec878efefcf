"""Tests of qcore.execution."""
