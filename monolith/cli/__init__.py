"""The command line: a thin client of the HTTP API, in this process or another."""
