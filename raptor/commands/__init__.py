"""What a person types: each command is a function from its parsed arguments to an exit code."""
