"""What runs inside the worker. It boots without site-packages: standard library and itself only."""
