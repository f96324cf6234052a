"""What becomes of a project's files before any board is touched: checked, minified, compiled for each board."""
