"""The demo's page: one run's report in, one self-contained HTML text out."""
