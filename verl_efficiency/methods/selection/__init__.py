"""Methods that select: they learn from some rollouts of a group, or from some tokens of a rollout, and leave out the others."""
