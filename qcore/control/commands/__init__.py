"""Control commands: one file each, named as people type it."""
