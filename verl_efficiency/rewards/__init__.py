r"""Rewards: functions that score one response at a time, in the form in which verl calls them. They know no framework.

``reward.custom_reward_function.path=pkg://verl_efficiency.rewards reward.custom_reward_function.name=accuracy``, or
``path=pkg://verl_efficiency.rewards.accuracy`` with verl's default name ``compute_score``. Every one is called as
``(data_source, solution_str, ground_truth, extra_info=None, **settings)`` and returns a dict of numbers and texts, with the
same keys for every sample: ``score`` is what training maximises, ``acc`` the plain correctness.

**Add a reward.** Three places: its file, its row in :mod:`verl_efficiency.methods.catalog`, its tests. The file, say
``rewards/brevity.py``, has a docstring (the formula, the paper, what is your choice, an example that runs), a settings class
and one function that scores::

    @dataclass(frozen=True)
    class BrevitySettings(AnswerSettings):
        '''Settings of ``brevity``.

        Args:
            weight: score that a correct answer loses at the token limit, in [0, 1].
        '''

        needs_cost: ClassVar[bool] = True  # reads response.tokens or response.limit
        extras: ClassVar[Mapping[str, float | str]] = {**AnswerSettings.extras, "share": 0.0}  # all that it returns

        weight: float = 0.5

        def __post_init__(self) -> None:
            super().__post_init__()
            require(0 <= self.weight <= 1, "weight", self.weight, "in [0, 1]")


    @reward(BrevitySettings)
    def brevity(response: Response, settings: BrevitySettings) -> Result:
        '''Returns what ``accuracy`` returns, with another ``score``; ``share``, tokens over the token limit.'''
        share = response.tokens / response.limit
        result = graded(response, settings)
        return result | {"score": result["acc"] * (1 - settings.weight * share), "share": share}


    compute_score = brevity

:class:`~verl_efficiency.rewards.base.Response` has the text, the ground truth, the tokens and the row's columns, and raises a
clear error where one is missing. A setting named ``<role>_column`` is the path of a column that the start-up checks look for.
The class variables of :class:`~verl_efficiency.rewards.base.RewardSettings` say what else the checks must know.
"""

from verl_efficiency.methods.catalog import REWARDS

# The attribute `accuracy` of this package is the function, also after an import of the module of the same name.
for _row in REWARDS.values():
    globals()[_row.name] = _row.function()
    globals()[_row.settings_class().__name__] = _row.settings_class()

__all__ = list(REWARDS)
