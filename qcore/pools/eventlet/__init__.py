"""The eventlet pool."""
