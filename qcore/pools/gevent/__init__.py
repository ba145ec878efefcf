"""The gevent pool."""
