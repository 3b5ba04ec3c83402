"""What is in a corpus: the tree as nested areas, for a terminal and as a page."""
