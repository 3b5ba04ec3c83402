"""Files to texts: find them, read each kind, in processes of their own where a kind is hostile."""
