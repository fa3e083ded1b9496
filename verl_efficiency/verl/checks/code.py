"""Code that verl loads by a path: the reward function, the reward manager, the data set and the sampler of groups."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from verl_efficiency.own_code import check_code, module_name
from verl_efficiency.verl.checks.files import many_machines
from verl_efficiency.verl.checks.reward import FUNCTION, PACKAGE

logger = logging.getLogger("verl_efficiency")


def check_code_of(config: Any) -> Iterator[str]:
    """The files and modules exist, and define the names that the configuration asks for."""
    reward = config.get("reward") or {}
    function, manager = reward.get("custom_reward_function") or {}, reward.get("reward_manager") or {}
    data_set = config.data.get("custom_cls") or {}
    places = [(FUNCTION, function.get("path"), function.get("name"))]
    if manager.get("source") == "importlib":
        module = manager.get("module") or {}
        places.append(("reward.reward_manager.module", module.get("path"), manager.get("name")))
    places.append(("data.custom_cls", data_set.get("path"), data_set.get("name")))
    sampler = ((config.trainer.get("v1") or {}).get("sampler") or {}).get("custom_sampler") or {}
    places.append(("trainer.v1.sampler.custom_sampler", sampler.get("path"), sampler.get("name")))
    for setting, path, name in places:
        if not path or str(module_name(path)).startswith(PACKAGE):  # checks/reward.py looks at our own rewards
            continue
        here = module_name(path) is not None or Path(str(path).removeprefix("file://")).exists()
        if here or not many_machines(config):
            yield from check_code(path, name, setting)
        else:
            logger.warning("%s.path: %s is not on this machine; it is not checked at start-up.", setting, path)
