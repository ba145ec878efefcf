"""The user's API: tasks, signatures, workflows and results."""
