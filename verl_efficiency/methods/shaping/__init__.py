"""Each published way to ask for fewer tokens is an advantage estimator in its own file.

A method says what becomes of the rewards, from scores, lengths and groups. What is common to all: the scale of the scores
(``score_correct``, ``score_wrong``), groups that nobody solved (``unsolved``), the group advantage of the shaped rewards,
``combine``, and how correctness is read from the score (``correct_threshold``); see
:mod:`verl_efficiency.methods.shaping.base`. Each takes its number of tokens from the response mask, so that those of
tools do not count; ``cost`` lets a rollout pay for something else, such as its thinking or its turns, see
:mod:`verl_efficiency.methods.cost`.

Where the authors' code is public, the numbers that it gives on a fixed batch are expectations of the tests, with the
commit: ``arora``, ``laser``, ``laser_d``, ``laser_de``, ``short_rl``, ``shorter_better``, ``grpo_lead``, ``hapo``,
``leash``, ``a_dlp``, ``drpo``, ``cosine``, ``truncation``, ``overlong``, ``pass_rate``, ``grlc``, ``grpo_roc``, and the
rewards ``lcpo_exact`` and ``lcpo_max``;
of ``kimi`` and ``gr3``, the code of others who have them.

Not here: AnytimeReasoner (BRPO, arXiv 2505.13438; github.com/sail-sg/AnytimeReasoner at 7e3f5bb, ``brpo.py``). Its
advantage needs several answers to each of several prefixes of every rollout, sampled after it and graded one by one, and
differs between the parts of a rollout; an estimator is given one score per rollout. With a single budget and its baseline
``v2only``, which its README calls GRPO, it is ``dr_grpo``.
"""
