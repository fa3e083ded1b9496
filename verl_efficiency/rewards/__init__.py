r"""Rewards: functions that score one response at a time, in the form in which verl calls them. They know no framework.

``reward.custom_reward_function.path=pkg://verl_efficiency.rewards reward.custom_reward_function.name=accuracy``, or
``path=pkg://verl_efficiency.rewards.accuracy`` with verl's default name ``compute_score``. Every one is called as
``(data_source, solution_str, ground_truth, extra_info=None, **settings)`` and returns a dict of numbers and texts, with the
same keys for every sample: ``score`` is what training maximises, ``acc`` the plain correctness.

CONTRIBUTING.md shows how to add a reward. verl, OpenRLHF (``--efficiency.reward NAME``), ``composition``, the start-up checks,
the command line, the docs and the tests of every reward follow from its row in :mod:`verl_efficiency.methods.catalog`.
"""

from verl_efficiency.methods.catalog import REWARDS

# The attribute `accuracy` of this package is the function, also after an import of the module of the same name.
for _row in REWARDS.values():
    globals()[_row.name] = _row.function()
    globals()[_row.settings_class().__name__] = _row.settings_class()

__all__ = list(REWARDS)
