"""What every route shares: the way of a request in and out."""
