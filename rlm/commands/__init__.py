"""The commands of `rlm`: what a person types, and what the terminal shows."""
