"""The prefork pool: a fork server and its children."""
