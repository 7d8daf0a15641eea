"""What there is to watch: titles on disk, as arrays in memory, and how sources bring them."""
