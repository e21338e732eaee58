"""What administrators of a project manage: its keys, and projects."""
