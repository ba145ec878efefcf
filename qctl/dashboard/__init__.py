"""The dashboard: sources fetch, state folds, views format, widgets and screens draw and handle keys."""
