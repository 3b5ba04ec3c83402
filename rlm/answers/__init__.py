"""What an answer rests on: its citations, looked up in the source, and what is demanded of it."""
