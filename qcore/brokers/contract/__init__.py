"""The broker contract, as records and abstract classes."""
