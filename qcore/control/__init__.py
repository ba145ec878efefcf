"""Remote control: requests to workers and their replies."""
