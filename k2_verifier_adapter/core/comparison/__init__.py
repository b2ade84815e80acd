"""Several runs over the same cases."""
