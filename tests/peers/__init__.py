"""Real servers from Debian's packages, as child processes on loopback, for sources that are followed."""
