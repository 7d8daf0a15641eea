"""The scenarios: what one answer is, and how it is asked for."""
