"""What a broker promises, in records and abstract classes."""
