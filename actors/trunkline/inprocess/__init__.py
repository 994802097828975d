"""Clients in this process: typed, without a socket, and without JSON."""
