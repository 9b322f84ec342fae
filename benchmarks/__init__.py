"""`make perf`: the engine measured against TRL, against naive code, and against itself as a problem grows."""
