"""One conversation: a model writes code, the code runs over the tree, the output goes back."""
