"""One file per data set layout; each offers `detect(path)` and `read(path, ...)`."""
