"""Our daemon against a reference stack: the same titles, the same week, the same calls."""
