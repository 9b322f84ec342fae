"""The laboratory on real images: `make claims CASES=folder`, see `studies/real/lab.py`."""
