"""What runs on the TV: numpy and one inference runtime, nothing else."""
