"""Rules of the code itself: floors, names, documents that are made from code."""
