"""A recorded run, done again: its replies are taken from the record, and all else must come out as it did."""
