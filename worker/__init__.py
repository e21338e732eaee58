"""The worker processes: they claim jobs in SQL, train, convert, and commit the results."""
