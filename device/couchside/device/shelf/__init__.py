"""What a viewer sees: what was watched, the rows, their reasons, search."""
