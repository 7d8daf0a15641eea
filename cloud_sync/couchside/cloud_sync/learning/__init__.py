"""The cloud learns: Rounds are opened, masked Updates summed, and only noised sums unmasked."""
