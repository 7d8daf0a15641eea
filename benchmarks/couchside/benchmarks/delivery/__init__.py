"""A Bundle on its way: a cloud, a broker, TVs that follow it, and somebody who tampers."""
