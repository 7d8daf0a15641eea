"""What can be watched: programme guides and catalogues, read strictly into titles."""
