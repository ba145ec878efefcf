"""Tests of qcore.app."""
