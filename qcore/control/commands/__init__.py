"""Control commands: one file for each subject."""
