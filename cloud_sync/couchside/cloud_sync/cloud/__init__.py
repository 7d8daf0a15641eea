"""The cloud side: keys, the release repository and what is published of it."""
