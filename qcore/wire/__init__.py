"""Every format that crosses a process, as typed records; nothing else holds one."""
