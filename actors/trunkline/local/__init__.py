"""Threads whose turns are run by agents of this process, and which are kept in a store of ours."""
