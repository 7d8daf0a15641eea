"""What Couchside costs, measured so that a stranger can repeat and doubt it."""
