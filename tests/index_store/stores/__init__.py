"""Indexes at URLs: an S3 server on loopback, and a shared folder."""
