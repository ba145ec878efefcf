"""Recordings in segments: written with an index, read as one, from any moment on."""
