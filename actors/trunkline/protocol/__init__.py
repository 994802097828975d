"""The wire: text to message and back. No socket, no actor."""
