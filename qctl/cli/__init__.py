"""How a command line is parsed, guarded and reported."""
