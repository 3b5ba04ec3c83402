"""Hold answers against given ones: a user's own questions, by several routes and models side by side."""
