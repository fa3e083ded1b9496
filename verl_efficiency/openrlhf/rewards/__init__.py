"""Files for ``--reward.remote_url`` and ``--train.agent_func_path``: our rewards with their default settings.

``--efficiency.reward <name>`` names the file of that name as the agent. For settings of yours see
:mod:`verl_efficiency.openrlhf.reward`.
"""
