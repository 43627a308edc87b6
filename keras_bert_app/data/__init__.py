"""Readers of labelled text and length buckets."""
