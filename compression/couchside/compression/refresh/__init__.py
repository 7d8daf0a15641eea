"""From the result of a Round to new Bundles: check, remake, judge."""
