"""Every format that crosses a process, as typed records; no format is defined elsewhere."""
