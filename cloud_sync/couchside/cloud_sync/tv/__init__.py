"""The TV side: what fetches, what verifies and installs, and what they remember."""
