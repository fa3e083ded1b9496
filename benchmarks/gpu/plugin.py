"""Does verl load the plugin here, and does it choose the accelerator although the plugin brings a CPU platform?

python -m benchmarks.gpu.plugin [--device cuda]
"""

from benchmarks.gpu.common import Row, done_before, read_options, save
from verl_efficiency.verl.probe import probe


def main() -> None:
    options = read_options(__doc__)
    if done_before("plugin", options):
        return
    seen = probe()
    from verl.utils.device import get_device_name

    names = [name for name in seen["estimators"] if "." not in name]
    save(
        "plugin",
        options,
        [
            Row("verl loads the plugin", f"{len(names)} estimators", "at least 1", seen["loaded"] and len(names) > 0),
            Row("verl's device", get_device_name(), options.device, get_device_name() == options.device),
        ],
    )


if __name__ == "__main__":
    main()
