"""Whether this process runs in CPU mode. Without it, nothing of ``verl_efficiency.verl.cpu`` is imported.

verl's own variable ``VERL_PLATFORM=cpu`` turns CPU mode on. A missing GPU does not: the head of a GPU cluster may have none.
"""

import importlib.util
import os

SWITCH = "VERL_PLATFORM"


def cpu_mode() -> bool:
    """Whether ``VERL_PLATFORM=cpu`` is set. False for verl < 0.9, which has no platforms and ignores the variable."""
    return os.environ.get(SWITCH, "").strip().lower() == "cpu" and importlib.util.find_spec("verl.plugin") is not None
