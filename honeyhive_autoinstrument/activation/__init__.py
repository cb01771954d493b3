"""Switches the recording on and wires the rooms together. Nothing below imports this package."""
