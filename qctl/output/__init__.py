"""Output of answers: tables for people, JSON for programs, terminal escapes in data always escaped."""
