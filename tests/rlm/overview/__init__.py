"""Tests of rlm.overview."""
