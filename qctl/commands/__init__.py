"""The commands of qctl: one file or folder each, named after the command, with the attribute `command`."""
