"""The command line of trunkline."""
