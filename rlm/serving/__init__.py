"""Indexes over HTTP: the API that chat clients speak, our own beside it, and pages for a browser."""
