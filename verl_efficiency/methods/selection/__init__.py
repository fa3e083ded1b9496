"""Methods that learn from some rollouts of a group, or from some tokens of a rollout."""
