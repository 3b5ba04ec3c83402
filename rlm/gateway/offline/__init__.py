"""Models that need no network: rules behind the same calls as paid models."""
