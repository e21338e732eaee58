"""Models, their versions, and what they were made of."""
