"""How answers are printed: tables for people, JSON for programs, never a terminal escape from data."""
