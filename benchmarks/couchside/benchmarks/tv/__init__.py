"""A real TV with somebody in front of it, for the demo and the promises."""
