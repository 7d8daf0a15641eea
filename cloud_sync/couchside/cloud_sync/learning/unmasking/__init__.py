"""The unmasking helper: holds seeds, sees no Update, gives away noised sums of masks only."""
