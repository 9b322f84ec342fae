"""medalign-lite: fine-grained, on-policy preference alignment of medical LVLMs, small enough to read."""

import logging

__version__ = "0.1.0"

# On some CPUs, importing bitsandbytes advises to install a package that fetches code from a hub: advice not to follow.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
