"""Tiny reasoning tasks, on which a model learns within minutes on two CPU cores: two to save tokens, one to be right.

A model of 200,000 parameters writes its working and boxes a number. The folder of a task holds a trained model to start from.

``checks``: the model adds digits modulo 10 in written steps, and copies each step 0 to 3 times as a "check". The checks fix
nothing, so more than half of a response is waste: the model starts at about 2.2 times the tokens of the shortest correct trace
(5 + 6 depth). The task shows whether a method trains end to end, how fast lengths and accuracy move and in which direction,
whether the shortest length is reached, and whether training on packs of N problems shortens single ones. It shows no trade-off
between length and accuracy, since no check ever helps, and it cannot rank two methods that both reach the shortest length.

``notes``: the model adds six digits modulo 10. After each digit it can note the sum so far (7 tokens), or keep it in its head.
It keeps sums of few digits in its head, but makes errors with more. The level of difficulty is the number of digits that are
not 0. The shortest answers to hard problems are wrong. The frontier (``notes/frontier.py``) is the highest
accuracy for a number of tokens that a policy can reach with the skill of the starting model. The task shows the trade-off of a
method, and whether it spends tokens on the problems that need them.

``products``: the model multiplies a number of two to four digits by one digit, in a written step per digit. It knows the steps,
but it has learned from traces with slips, so it slips in about one step of seven. One slip spoils the answer. The level of
difficulty is the number of digits. The task shows how fast a method finds the tokens that matter. It does not show whether a
method saves tokens, since all correct responses to a problem have the same length.

No task shows how much a method saves on a real model, nor anything about mathematics.

``python -m verl_efficiency.testbed.prepare --task notes --out DIR`` writes the model and the data of a task.
"""
