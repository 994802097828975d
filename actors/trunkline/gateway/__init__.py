"""The gateway: another app-server, started as a child, answers what clients ask."""
