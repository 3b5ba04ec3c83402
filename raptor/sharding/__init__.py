"""An index in parts: which document goes into which shard, the shards built side by side, one tree over their roots."""
