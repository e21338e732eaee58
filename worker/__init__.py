"""The worker processes: they claim jobs in SQL, train, convert, and commit what came of it."""
