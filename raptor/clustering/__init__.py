"""Vectors to soft clusters."""
