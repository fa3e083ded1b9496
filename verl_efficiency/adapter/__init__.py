"""What the adapters of all frameworks share. Nothing in this package imports verl, Ray or OpenRLHF.

A method takes :class:`~verl_efficiency.methods.rollouts.Rollouts` and returns an
:class:`~verl_efficiency.methods.outcome.Outcome`. The adapter of one more framework supplies:

1. *Settings.* Read the user's mapping, then ``method.build_settings(mapping, where)``; ``where`` is what users of the framework
   write before the name of a setting (``algorithm.efficiency``, ``--efficiency``).
2. *The data of a step.* A :class:`.rollouts.Step`: rows of the data set, response mask, token ids, feedback.
3. *One call per step.* ``Rollouts.build(scores, lengths, groups)``, :func:`.rollouts.complete`, ``method.function()``, and
   :func:`.rollouts.spread` for advantages (B, L), which go to the place where the framework's loss reads them.
4. *Metrics.* The outcome's to the framework's log (:mod:`.metrics` has a line for the console, and the reward's components).
5. *Checkpoints.* :func:`.state.dump` into them, :func:`.state.restore` out of them.
6. *Start-up.* Refuse, before a model loads, the framework's settings that a method would ignore (:mod:`.checks`).
7. *Rewards.* Call ours with ``response_tokens``, ``response_limit``, ``truncated`` and ``prompt_id`` in ``extra_info``.

Methods with a self-teacher also need three subclasses: of :class:`.teacher.Teacher`, which runs the passes through the
model and hands their results to the loss; of the framework's loss, with the weighted divergence
(:func:`.teacher.token_weights`, ``methods.distillation``); of :class:`.average.WeightAverage`, which finds the trained weights.
"""
