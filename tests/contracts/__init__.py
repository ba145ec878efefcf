"""One suite a plug-in family; every plug-in passes it."""
