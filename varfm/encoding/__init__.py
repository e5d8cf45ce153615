"""From bases to what networks read."""
