"""Did a run on the CPU do what it says? Read from what its actors wrote: their lines in the log, and TensorBoard's records."""

import math
import re
import statistics
from pathlib import Path
from typing import Annotated

import typer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def main(
    log: Annotated[Path, typer.Argument(help="the driver's log, with the lines of all actors")],
    records: Annotated[Path, typer.Argument(help="folder of TensorBoard's records")],
    steps: Annotated[int, typer.Option(help="steps that the run must have made")],
    trainer: Annotated[str, typer.Option(help="the class that must have trained")],
    shorter: Annotated[
        float | None, typer.Option(help="mean length at the end over that at the start, at most")
    ] = None,
    distils: Annotated[bool, typer.Option(help="the loss must have had a distillation term in some step")] = False,
    goes_on_from: Annotated[
        Path | None, typer.Option(help="log of the run that this one resumes at its middle")
    ] = None,
) -> None:
    """Raise AssertionError unless everything holds."""
    text = re.sub(r"\x1b\[\d+m", "", log.read_text())
    assert re.search(rf"\({trainer} pid=\d+\) \[verl-efficiency\] {trainer} uses EfficiencyExperienceMaker", text)
    policy = r"\(EfficiencyPolicyModelActor pid=\d+\) \[verl-efficiency\] EfficiencyPolicyModelActor uses "
    assert re.search(policy + "EfficiencyActorTrainer with EfficiencyPolicyLoss", text)

    folder = max(records.iterdir(), key=lambda path: path.stat().st_mtime)
    accumulator = EventAccumulator(str(folder)).Reload()
    scalars = {
        tag.removeprefix("train/"): [event.value for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
    }
    made = len(scalars["policy_loss"])
    first = 0 if goes_on_from is None else steps // 2
    assert made == steps - first, f"{made} steps"
    assert len(re.findall(rf"\({trainer} pid=\d+\) \[(?!verl-eff)\w+\] ", text)) == made  # our maker, once a step
    assert all(map(math.isfinite, scalars["policy_loss"] + scalars["actor_grad_norm"]))
    assert any(norm > 0 for norm in scalars["actor_grad_norm"])
    # Our metrics went through the replay buffer and the actor; some are there only where a rollout has a teacher.
    assert sum(name.startswith("efficiency/") and len(values) == made for name, values in scalars.items()) >= 3
    if distils:
        assert any(value > 0 for value in scalars["efficiency/distil_loss"])
        assert all(map(math.isfinite, scalars["efficiency/distil_loss"]))
    gap = max(scalars["efficiency/log_prob_gap_rest"])
    assert gap < 0.01, f"log-probabilities of vLLM and trainer are {gap} apart"
    lengths = scalars["rollout/response_length_mean"]
    told = scalars["reward/tokens"]  # by the agent to the reward
    assert all(math.isclose(a, b, rel_tol=1e-5) for a, b in zip(told, lengths, strict=True)), (
        f"{told} are not {lengths}"
    )
    start, end = statistics.mean(lengths[:5]), statistics.mean(lengths[-5:])
    if shorter is not None:
        assert end <= shorter * start, f"mean length {start:.1f} → {end:.1f}"
        correct = scalars["reward/acc"]
        assert min(correct[-5:]) > 0.8, f"accuracy {correct[-5:]}"
    if goes_on_from is not None:
        # With budget_decay near 1 the budgets stay those of the first batch; without its state a run would take its own first.
        before = re.sub(r"\x1b\[\d+m", "", goes_on_from.read_text())
        assert len(set(budgets(before))) == 1
        assert set(budgets(text)) == set(budgets(before)), f"{budgets(before)} went on as {budgets(text)}"
        assert "starts again" not in text
    losses = f"losses {min(scalars['policy_loss']):.3f} … {max(scalars['policy_loss']):.3f}"
    print(f"{trainer}: {made} steps, {losses}, log-probability gap after the first token at most {gap:.4f}, "
          f"mean length {start:.1f} → {end:.1f} tokens")  # fmt: skip


def budgets(text: str) -> list[str]:
    """The two budgets of every step, as token_budget printed them."""
    return re.findall(r"\[token_budget\] (b_min=\S+ b_max=\S+)", text)


if __name__ == "__main__":
    typer.run(main)
