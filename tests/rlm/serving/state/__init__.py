"""The state of a server, in both databases."""
