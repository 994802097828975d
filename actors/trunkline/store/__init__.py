"""What outlives a loaded thread."""
