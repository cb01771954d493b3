"""Turns what a Hook saw into facts: the Recorder, the Calls in flight, the streams. Runs in the application's thread."""
