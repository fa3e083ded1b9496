"""Two reasoning tasks so small that token saving is learnt on two CPU cores in minutes.

A model of 200,000 parameters writes its working and boxes a digit. Each task has a committed warm start in its folder.

``checks``: the model adds digits modulo 10, one written step after the other, and copies each step 0 to 3 times as a "check".
The checks repair nothing, so more than half of what it writes is waste: it starts at about 2.2 times the tokens of the shortest
correct trace (5 + 6 depth). The task shows that a method trains end to end; in which direction lengths and accuracy move, and
how fast; whether the shortest length is reached; whether packs of N problems carry over to single ones. It cannot show a
trade-off between length and accuracy, since no check ever helps, nor which of two methods is better once both sit on the floor.

``notes``: the model adds six digits modulo 10. After each digit it may note the sum so far (7 tokens), or keep it in its head.
It can keep sums of few digits in its head, and goes wrong with more; a level of difficulty is the number of digits that are not
0. Here care pays: the shortest answers are wrong on hard problems, and the frontier (``notes/frontier.py``) says how accurate
the best policy with the warm start's skill can be for a number of tokens. It shows the trade-off of a method, and whether it
spends tokens where they are needed.

Neither shows the size of a saving on a real model, nor anything about mathematics.

``python -m verl_efficiency.testbed.prepare --task notes --out DIR`` writes the model and the data of a task.
"""
