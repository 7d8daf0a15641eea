"""The aggregator: sums masked Updates, and can open none."""
