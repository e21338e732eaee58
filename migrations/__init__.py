"""The database schema, one step at a time."""
