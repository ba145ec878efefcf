"""The control bus: requests to workers and their replies."""
