"""A reasoning task so small that token saving is learnt on two CPU cores in minutes.

A model of 200,000 parameters adds digits modulo 10, one written step after the other, and copies each step 0 to 3 times as a
"check". The checks repair nothing, so by construction more than half of what it writes is waste: it starts at about 2.2 times
the tokens of the shortest correct trace. A method that saves tokens here has found that waste and dropped it.

What it can show: that a method trains end to end; in which direction lengths and accuracy move, and how fast; whether the
shortest length (5 + 6 depth tokens) is reached; whether packs of N problems carry over to single ones; whether a setting
collapses.

What it cannot show: a trade-off between length and accuracy, since no check ever helps; which of two methods is better once
both sit on the floor; the size of a saving on a real model; anything about mathematics.

``python -m verl_efficiency.testbed.prepare --out DIR`` writes the model and the data.
"""
