"""Who lives here and what they did: history.db and the moments that answers read."""
