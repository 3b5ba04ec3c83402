"""One module a step; each says which revision it comes after."""
