"""What runs a job's work: executors behind one small interface, and the DATA service's files and secrets."""
