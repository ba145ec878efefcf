"""Where qctl keeps what people set: contexts, the project file, the user's defaults; which of them wins."""
