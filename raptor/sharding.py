"""Build and change an index of indexes: shards side by side, and one upper tree over their roots."""
