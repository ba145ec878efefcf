"""An inbox of errors: an app and a task class of its own, apply_async overridden, settings as a module."""
