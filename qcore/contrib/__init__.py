"""What frameworks need of an app; a module here is imported only in a project of its framework."""
