"""An index of indexes: shards below one upper tree, read as one tree."""
