"""Tests of rlm.mapping."""
