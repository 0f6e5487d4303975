"""The command line: a client of the daemon's API that imports nothing of the daemon and starts in a blink."""
