"""Our rewards with their default settings, one file each, because OpenRLHF loads a reward by the path of a file.

``--efficiency.reward NAME`` passes the file of that name as ``--train.agent_func_path``. For other settings, write your own
file, see :mod:`verl_efficiency.openrlhf.reward`.
"""
