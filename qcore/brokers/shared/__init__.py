"""What more than one driver uses."""
