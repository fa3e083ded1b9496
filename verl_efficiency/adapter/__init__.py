"""What the adapters of all frameworks share. Nothing in this package imports verl, Ray or OpenRLHF.

A method takes :class:`~verl_efficiency.methods.rollouts.Rollouts` and returns an
:class:`~verl_efficiency.methods.outcome.Outcome`. The adapter of one more framework supplies:

1. *Settings.* Read the user's mapping, then ``method.build_settings(mapping, where)``; ``where`` is what users of the framework
   write before the name of a setting (``algorithm.efficiency``, ``--efficiency``).
2. *The data of a step.* A :class:`~.rollouts.Source` with the rows of the data set, responses, feedback and response mask.
3. *One call per step.* ``Rollouts.build(scores, lengths, groups)``, :func:`.rollouts.complete`, ``method.function()``, and
   :func:`.rollouts.spread` for advantages (B, L), which go to the place where the framework's loss reads them.
4. *Metrics.* The outcome's to the framework's log (:mod:`.metrics` has a line for the console, and the reward's components).
5. *Checkpoints.* :func:`.state.dump` into them, :func:`.state.restore` out of them.
6. *Start-up.* Refuse, before a model loads, the framework's settings that a method would ignore (:mod:`.checks`).
7. *Rewards.* Call ours with ``response_tokens``, ``response_limit``, ``truncated`` and ``prompt_id`` in ``extra_info``.

Methods with a self-teacher also need, around :class:`.teacher.Teacher`: a forward pass for the student's top-K tokens and one
for the teacher (``methods.distillation`` reads their logits), the weighted divergence in the loss, a way to take skipped
rollouts out of loss and denominator, and a :class:`.average.WeightAverage` that finds the trained weights.
"""
