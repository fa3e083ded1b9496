# Python imports this in every process with this folder on its path: the driver, Ray's workers, vLLM's engine.
import openrlhf_on_cpu  # noqa: F401
