"""What the adapters of all frameworks share. Nothing in this package imports verl, Ray or OpenRLHF.

A method takes :class:`~verl_efficiency.methods.rollouts.Rollouts` and returns an
:class:`~verl_efficiency.methods.outcome.Outcome`. An adapter for another framework does seven things:

1. *Settings.* Read the user's mapping and call ``method.build_settings(mapping, where)``. ``where`` is what users of the
   framework write before the name of a setting (``algorithm.efficiency``, ``--efficiency``).
2. *The data of a step.* Build a :class:`.rollouts.Step`: rows of the data set, response mask, token ids, feedback.
3. *One call per step.* Call ``Rollouts.build(scores, lengths, groups)``, :func:`.rollouts.complete`, ``method.function()`` and
   :func:`.rollouts.spread`. Put the advantages (B, L) where the framework's loss reads them.
4. *Metrics.* Log the outcome's metrics. :mod:`.metrics` formats a console line and averages the components of the reward.
5. *Checkpoints.* Save the state of a method with :func:`.state.dump`, and load it with :func:`.state.state_in`; or with
   :class:`.state.StateFiles`, if the framework does not store it.
6. *Start-up.* Before a model loads, refuse settings of the framework that a method would ignore (:mod:`.checks`).
7. *Rewards.* Call our rewards with ``response_tokens``, ``response_limit``, ``truncated`` and ``prompt_id`` in ``extra_info``.

Methods with a self-teacher also need three subclasses:

* of :class:`.teacher.Teacher`: it runs the passes through the model and hands their results to the loss;
* of the framework's loss: it adds the weighted divergence (:func:`.teacher.token_weights`, ``methods.distillation``);
* of :class:`.average.WeightAverage`: it finds the trained weights.
"""
