"""Tests of qcore.base."""
