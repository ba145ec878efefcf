"""What users write: tasks, signatures, workflows; and results."""
