"""medalign-lite: fine-grained, on-policy preference alignment of medical LVLMs, small enough to read."""

__version__ = "0.1.0"
