"""Where the dashboard's facts come from: live, or a recording."""
