"""The app: settings, tasks, connections, and the publishing of calls."""
