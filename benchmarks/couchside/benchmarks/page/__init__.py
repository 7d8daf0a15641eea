"""The demo's page: one run's report in, one self-contained HTML text out."""

from couchside.benchmarks.page.render import render

__all__ = ["render"]
