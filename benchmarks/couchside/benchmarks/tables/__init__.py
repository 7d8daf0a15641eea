"""The tables that people quote: one module a table, one JSON a result, one generated page."""
