"""One small protocol over the inference runtimes that a TV may have."""
