"""The launcher on a machine without a GPU: Ray is told of GPUs that are not there, one for each actor."""

import os
import runpy

import ray

if __name__ == "__main__":
    ray.init(
        address="local",
        num_gpus=int(os.environ.get("CPU_ACTORS", "3")),
        num_cpus=8,  # a laptop has fewer, and the actors want one each
        include_dashboard=False,
        object_store_memory=2**28,
    )
    runpy.run_module("verl_efficiency.openrlhf.train", run_name="__main__", alter_sys=True)
