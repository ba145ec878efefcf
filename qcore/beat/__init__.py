"""Publish tasks when their time has come: the scheduler, and where entries are kept."""
