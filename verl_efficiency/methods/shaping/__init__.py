"""Length-shaped methods, one file each: an advantage estimator that makes rollouts pay for length.

A method turns scores, lengths and groups into shaped rewards. :mod:`verl_efficiency.methods.shaping.base` has the rest, which
all methods share. Lengths come from the response mask, so tool tokens do not count. With the setting ``cost`` a rollout pays
for something else, such as its thinking or its turns, see :mod:`verl_efficiency.methods.cost`.

Where the authors' code is public, a method's file names the file and the commit, and the tests compare the method with the
numbers that this code gives on a fixed batch. For ``kimi`` and ``gr3`` it is the code of others who re-implemented them.

Not here: AnytimeReasoner (BRPO, arXiv 2505.13438; github.com/sail-sg/AnytimeReasoner at 7e3f5bb, ``brpo.py``). It cuts every
rollout at several prefixes, samples several answers after each and grades them one by one. Its advantage differs between the
parts of a rollout, but an estimator gets one score per rollout. With a single budget and its baseline ``v2only``, which its
README calls GRPO, it equals ``dr_grpo``.
"""
