"""What we promise, as data, and what a real TV needs of it."""
