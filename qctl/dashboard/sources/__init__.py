"""Sources of the dashboard's data: a live fleet, or a recording."""
