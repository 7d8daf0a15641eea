"""What the TV learns from its own history, and what of it may leave, clipped and masked."""
