"""The app: settings, tasks, connections, and the way from a call to a message."""
