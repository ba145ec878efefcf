"""Views: rows and cells of each table."""
