"""Moves encoded records to where they go, and keeps on disk what cannot go yet. Does not know what they mean."""
