"""What commands and the dashboard both ask of a fleet."""
