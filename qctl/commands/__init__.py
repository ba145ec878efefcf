"""The commands of qctl: one file each, named as people type it, holding `command`."""
