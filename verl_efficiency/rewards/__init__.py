r"""Rewards: functions that score one response at a time, in the form in which verl calls them. They know no framework.

``reward.custom_reward_function.path=pkg://verl_efficiency.rewards reward.custom_reward_function.name=accuracy``, or
``path=pkg://verl_efficiency.rewards.accuracy`` with verl's default name ``compute_score``. Every one is called as
``(data_source, solution_str, ground_truth, extra_info=None, **settings)`` and returns a dict of numbers and texts, with the
same keys for every sample: ``score`` is what training maximises, ``acc`` the plain correctness.

**Add a reward** in three places: its file, its row in :mod:`verl_efficiency.methods.catalog`, its tests. ``stop_properly.py``
is the shortest file to copy. It holds

* a docstring: the reward in one sentence, the formula, the paper, what is your choice, an example that runs;
* a settings class, derived from :class:`~verl_efficiency.rewards.base.AnswerSettings` if the reward grades an answer. It checks
  its values, and says in class variables what the start-up checks must know (``needs_cost``, ``ranks_wrong``, …) and which keys
  the reward returns (``extras``). A setting ``<role>_column`` is the path of a column that the checks look for in the data;
* a function ``(response, settings) -> dict`` under :func:`~verl_efficiency.rewards.base.reward`, named as the file.
``response`` is
  a :class:`~verl_efficiency.rewards.base.Response`: text, ground truth, tokens and columns of the row, each with a clear error
  where it is missing. ``graded(response, settings)`` is what ``accuracy`` returns;
* ``compute_score = <the function>``, for verl.

verl, OpenRLHF (``--efficiency.reward NAME``), ``composition``, the start-up checks, the command line, the docs and the tests of
every reward (``tests/unit/rewards/test_every_reward.py``) follow from the row.
"""

from verl_efficiency.methods.catalog import REWARDS

# The attribute `accuracy` of this package is the function, also after an import of the module of the same name.
for _row in REWARDS.values():
    globals()[_row.name] = _row.function()
    globals()[_row.settings_class().__name__] = _row.settings_class()

__all__ = list(REWARDS)
