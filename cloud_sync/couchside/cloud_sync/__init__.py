"""Signed Bundles travel to TVs over MQTT, and nobody has to trust the broker."""
