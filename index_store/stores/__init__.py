"""Indexes in object stores and shared folders: push, pull, and prune, by URL."""
