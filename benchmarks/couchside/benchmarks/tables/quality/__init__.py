"""How good is the ranking: the lab's own report, new viewers, new titles, narrower models."""
