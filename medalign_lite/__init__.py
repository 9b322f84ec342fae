"""medalign-lite: fine-grained, on-policy preference alignment of medical LVLMs, small enough to read."""

import logging
import platform
import sys

__version__ = "0.1.0"

if sys.platform == "win32":
    raise ImportError("medalign-lite does not run on native Windows: use WSL 2, and there `make doctor`")
if (sys.platform, platform.machine()) == ("darwin", "x86_64"):
    raise ImportError("medalign-lite does not run on Intel Macs (there is no torch): use Linux or Apple silicon")

# On some CPUs, importing bitsandbytes advises to install a package that fetches code from a hub: advice not to follow.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
