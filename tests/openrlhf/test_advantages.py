"""Every method's advantages are those of verl's adapter on the same rollouts.

The rollouts are written by hand as OpenRLHF's experiences: micro-batches of uneven size, prompts of uneven length, a tool's
tokens inside a response. verl's adapter gets them as verl would hold them (responses from column 0 on, padded on the right), so
rows, groups, masks, lengths, token positions and columns of the data set must all come through for the two to agree.
"""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from openrlhf.trainer.ppo_utils.experience import Experience

from verl_efficiency.adapter.state import STARTS_AGAIN
from verl_efficiency.data.openrlhf import read_label
from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.methods.routing import SKIP, route
from verl_efficiency.openrlhf.experience import EfficiencyExperienceMaker
from verl_efficiency.openrlhf.options import take_options
from verl_efficiency.openrlhf.self_teacher import SelfTeacher
from verl_efficiency.settings import SettingsError
from verl_efficiency.verl import columns as verl_columns
from verl_efficiency.verl import run
from verl_efficiency.verl.estimators import make_estimator

from .world import label

GROUPS, SIZE, STEPS = 4, 4, 3
LIMIT = 24
TOOL = {5: (3, 6), 9: (2, 4)}  # rollout → columns of its response that a tool wrote

CASES = [
    *[
        (name, {})
        for name in ESTIMATORS
        if name not in ("sample_routing", "self_distillation", "concise_teacher", "custom")
    ],  # test_self_teacher.py
    ("token_budget", {"difficulty": "data", "difficulty_column": "extra_info.difficulty", "b_min": 5.0, "b_max": 20.0}),
    ("token_budget", {"difficulty": "running"}),
    ("alp", {"beta": 0.01, "advantage": "rloo"}),
    ("hapo", {"prompt_column": "extra_info.name"}),
    ("toggle", {"prompt_column": "extra_info.name", "phase_steps": 1}),
    ("s_grpo", {"first_tokens": 2, "probability": 0.5, "most_tokens": 5}),
    ("custom", {"shaper": "verl_efficiency.methods.shaping.leash.leash", "target_length": 10.0}),
    ("gfpo", {"advantage": "dr_grpo"}),
    ("truncation", {"advantage": "batch"}),
    ("kimi", {"unsolved": "leave", "score_wrong": -1.0}),
    *[("kimi", {"cost": cost}) for cost in ("thinking", "answer", "turns", "context", "generated+10*turns")],
    ("token_budget", {"cost": "thinking+0.5*answer"}),
    ("t_spmo", {"normalise": "none"}),
]


def step(seed: int) -> list[SimpleNamespace]:
    """The rollouts of one step. Group 2 is all right and group 3 all wrong; one response is as long as the limit."""
    rng = np.random.default_rng(seed)
    rows = []
    for group in range(GROUPS):
        prompt_length = int(rng.integers(2, 7))
        for member in range(SIZE):
            number = group * SIZE + member
            length = LIMIT if number == 1 else int(rng.integers(7, LIMIT))
            mask = np.ones(length, dtype=np.int64)
            mask[slice(*TOOL.get(number, (0, 0)))] = 0
            score = {2: 1.0, 3: 0.0}.get(group, float(rng.integers(0, 2)))
            rows.append(
                SimpleNamespace(
                    prompt=[7] * prompt_length,
                    response=[10 + (group + member // 2) % 3, *rng.integers(10, 14, size=length - 1).tolist()],
                    mask=mask,
                    score=score,
                    text=f"problem {group}",
                    label=label("1", difficulty=group / (GROUPS - 1), name=f"name {group}"),
                )
            )
    return rows


def experiences(rows: list[SimpleNamespace]) -> list[Experience]:
    """Micro-batches of 3 in a shuffled order, as with ``train.dynamic_batch_enable``."""
    order = np.random.default_rng(5).permutation(len(rows)).tolist()
    batches = []
    for start in range(0, len(rows), 3):
        members = order[start : start + 3]
        width = max(len(rows[k].prompt) + len(rows[k].response) for k in members)
        sequences = torch.zeros(len(members), width, dtype=torch.long)
        action_mask = torch.zeros(len(members), width - 1, dtype=torch.long)
        for place, k in enumerate(members):
            begin, end = len(rows[k].prompt), len(rows[k].prompt) + len(rows[k].response)
            sequences[place, :end] = torch.tensor(rows[k].prompt + rows[k].response)
            action_mask[place, begin - 1 : end - 1] = torch.from_numpy(rows[k].mask)
        scores = torch.tensor([rows[k].score for k in members])
        batches.append(
            Experience(
                sequences=sequences,
                attention_mask=(sequences > 0).long(),
                action_mask=action_mask,
                kl=torch.zeros(action_mask.shape),
                rewards=scores.clone(),
                scores=scores.clone(),
                index=members,
                prompts=[rows[k].text for k in members],
                labels=[rows[k].label for k in members],
                info={"reward": scores.clone()},
            )
        )
    return batches


def maker_for(name: str, settings: dict) -> EfficiencyExperienceMaker:
    flags = ["--efficiency.method", name]
    for key, value in settings.items():
        flags += [f"--efficiency.{key}", value if isinstance(value, str) else json.dumps(value)]
    args = SimpleNamespace(
        efficiency=take_options(flags)[0],
        algo=SimpleNamespace(advantage=SimpleNamespace(estimator="group_norm", gamma=1.0)),
        rollout=SimpleNamespace(n_samples_per_prompt=SIZE),
        reward=SimpleNamespace(overlong_buffer_len=None, stop_properly_penalty_coef=None, clip_range=(-10, 10)),
    )
    return EfficiencyExperienceMaker(
        None, None, None, None, SimpleNamespace(value=0.0), SimpleNamespace(args=args), Words()
    )


class Words:
    """A tokenizer as far as thinking is counted with it: token 11 ends the thinking, and token 7 (of the prompts) is a word."""

    def get_vocab(self) -> dict[str, int]:
        return {"word": 7, "</think>": 11}

    def decode(self, ids) -> str:
        return " ".join("word" for _ in ids)


def thinking_of(row: SimpleNamespace) -> int:
    """Generated tokens up to the last </think>."""
    ends = [place + 1 for place, token in enumerate(row.response) if token == 11]
    return int(row.mask[: max(ends, default=0)].sum())


def ours(maker: EfficiencyExperienceMaker, rows: list[SimpleNamespace]) -> torch.Tensor:
    """(B, L): advantages from the first token of each response on; outside of the masks all must be 0."""
    advantages = torch.zeros(len(rows), LIMIT)
    for experience in maker.compute_advantages_and_returns(experiences(rows)):
        assert experience.advantages.dtype == torch.float32
        assert bool((experience.advantages[experience.action_mask == 0] == 0).all())
        for place, number in enumerate(experience.index or []):
            begin, length = len(rows[number].prompt) - 1, len(rows[number].response)
            advantages[number, :length] = experience.advantages[place, begin : begin + length]
    return advantages


def verls(name: str, settings: dict, rows: list[SimpleNamespace], labels_G: tuple, monkeypatch) -> torch.Tensor:
    """The same from verl's adapter; the rows of the data set come from TransferQueue there."""
    mask, rewards = torch.zeros(len(rows), LIMIT, dtype=torch.long), torch.zeros(len(rows), LIMIT)
    for number, row in enumerate(rows):
        mask[number, : len(row.mask)] = torch.from_numpy(row.mask)
        rewards[number, len(row.mask) - 1] = row.score
    columns = [{**read_label(rows[first].label), "raw_prompt": rows[first].text} for first in range(0, len(rows), SIZE)]
    monkeypatch.setattr(verl_columns, "_rows_of_step", lambda labels, paths: columns)
    responses = tuple(torch.tensor(row.response) for row in rows)
    thinking = torch.tensor([thinking_of(row) for row in rows])
    known = {
        "feedback_B": (None,) * len(rows),
        "prompt_tokens": lambda: torch.tensor([len(row.prompt) for row in rows]),
    }
    monkeypatch.setattr(run, "_step", run.step(responses_B=responses, thinking_B=thinking, **known))
    uids = np.repeat(np.array(labels_G, dtype=object), SIZE)
    return make_estimator(ESTIMATORS[name])(rewards, mask, uids, {"efficiency": settings})[0]


@pytest.mark.parametrize(("name", "settings"), CASES, ids=lambda value: value if isinstance(value, str) else str(value))
def test_advantages_equal_verls(name, settings, monkeypatch):
    if hasattr(ESTIMATORS[name].build_settings(settings, "here"), "max_response_length"):
        settings = {**settings, "max_response_length": LIMIT}
    maker = maker_for(name, settings)
    run.reset()
    moved = False
    for seed in range(STEPS):  # several steps, so that a state that is lost or mixed up shows
        rows = step(seed)
        got = ours(maker, rows)
        names_G = tuple(f"name {group} of verl's" for group in range(GROUPS))  # no method looks at the names
        want = verls(name, settings, rows, names_G, monkeypatch)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-6)
        moved |= bool(got.abs().max() > 1e-3)
    assert moved  # all zeros would be equal too
    run.reset()


def _labels(maker: EfficiencyExperienceMaker, rows: list[SimpleNamespace]) -> tuple:
    """The names of our groups."""
    from verl_efficiency.openrlhf.batch import Batch

    return Batch.of(experiences(rows), SIZE).rollouts(maker.method_settings).labels_G


def _scored(self, plan, _prompts):
    """One id, and its log-probability 0, for every token."""
    self.ids = self.logps = [torch.zeros(tokens, 1) for tokens in plan.tokens]


@pytest.mark.parametrize(
    ("name", "settings"),
    [("sample_routing", {}), ("sample_routing", {"advantage": "rloo", "demonstration": "shortest"}), ("self_distillation", {}),
     ("variance_routing", {"distil": True, "store_responses": True})],
)  # fmt: skip
def test_advantages_beside_a_teacher_equal_verls(name, settings, monkeypatch):
    """Routes and advantages of the methods with a teacher; what the teacher says is in test_self_teacher.py."""
    monkeypatch.setattr(SelfTeacher, "prompts", lambda _, plan: [torch.zeros(1)] * len(plan.taught))
    monkeypatch.setattr(SelfTeacher, "_texts", lambda _, responses: [""] * len(responses))
    monkeypatch.setattr(SelfTeacher, "student_topk", lambda *_: None)
    monkeypatch.setattr(SelfTeacher, "score", _scored)
    maker = maker_for(name, settings)
    run.reset()
    shares = []
    for seed in range(STEPS):
        rows = step(seed)
        mask = torch.zeros(len(rows), LIMIT)
        for number, row in enumerate(rows):
            mask[number, : len(row.mask)] = torch.from_numpy(row.mask)
        want = verls(name, settings, rows, _labels(maker, rows), monkeypatch)
        routes = route(ESTIMATORS[name].own_router(), _verls_rollouts(name, settings, rows), maker.method_settings)
        made = maker.compute_advantages_and_returns(experiences(rows))
        got, taught, learns = torch.zeros(len(rows), LIMIT), set(), set()
        for experience in made:
            for place, number in enumerate(experience.index or []):
                begin, length = len(rows[number].prompt) - 1, len(rows[number].response)
                got[number, :length] = experience.advantages[place, begin : begin + length]
                taught |= {number} if len(experience.info["distil"][place]) else set()
                learns |= {number} if experience.action_mask[place].any() else set()
        torch.testing.assert_close(got, want, rtol=0, atol=1e-6)
        assert taught == set(routes.distil_B.nonzero().flatten().tolist())
        assert learns == set((routes.route_B != SKIP).nonzero().flatten().tolist())
        shares.append(len(taught) / len(rows))
    assert 0 < sum(shares) < STEPS
    run.reset()


def _verls_rollouts(name: str, settings: dict, rows: list[SimpleNamespace]):
    """What verl's trainer routes by."""
    from verl_efficiency.verl.estimators import rollouts_of

    method = ESTIMATORS[name]
    lengths = torch.tensor([int(row.mask.sum()) for row in rows])
    uids = np.repeat(np.array([str(group) for group in range(GROUPS)], dtype=object), SIZE)
    scores = torch.tensor([row.score for row in rows])
    return rollouts_of(scores, lengths, uids, method, method.build_settings(settings, "here"), run.current_step())


def test_groups_of_several_prompts_are_refused():
    rows = step(0)
    rows[1].text = "another"
    with pytest.raises(ValueError, match=r"rollouts 0 to 3 .* group"):
        ours(maker_for("kimi", {}), rows)


def test_incomplete_groups_are_refused():
    from verl_efficiency.openrlhf.batch import Batch

    with pytest.raises(ValueError, match=r"15 rollouts .*n_samples_per_prompt=4"):
        Batch.of(experiences(step(0)[:15]), SIZE)


def test_a_response_cut_to_nothing_has_no_tokens():
    from verl_efficiency.openrlhf.batch import Batch

    batch = experiences(step(0))
    place = batch[0].index.index(min(batch[0].index))
    number = batch[0].index[place]
    batch[0].action_mask[place] = 0
    collected = Batch.of(batch, SIZE)
    assert len(collected.tokens_B[number]) == 0
    assert collected.mask_BL[number].sum() == 0


def test_metrics_are_logged_with_every_sample():
    made = maker_for("token_budget", {}).compute_advantages_and_returns(experiences(step(0)))
    assert all(len(e.info["efficiency/solve_rate"]) == len(e.index) for e in made)
    solved = sum(row.score for row in step(0)) / (GROUPS * SIZE)
    assert made[0].info["efficiency/solve_rate"][0].item() == pytest.approx(solved)


def test_the_logged_return_is_what_is_trained_on():
    made = maker_for("gfpo", {}).compute_advantages_and_returns(experiences(step(0)))
    for experience in made:
        for row, mask in enumerate(experience.action_mask.bool()):
            (advantage,) = set(
                experience.advantages[row, mask].tolist()
            )  # that of a rollout is the same at all its tokens
            assert experience.info["return"][row].item() == pytest.approx(advantage)


def test_labels_differ_from_step_to_step_and_repeat_in_a_repeated_run():
    maker = maker_for("s_grpo", {})
    first, second, again = (_labels(maker, step(seed)) for seed in (0, 1, 0))
    assert first == again
    assert not set(first) & set(second)


@pytest.mark.parametrize("length", [1, 40, 64, 65, 5000])
def test_a_name_changes_with_the_place_the_prompt_the_length_and_the_tokens(length):
    from verl_efficiency.openrlhf.batch import Batch

    response = torch.arange(length)

    def names(text="1+1?", tokens=response):
        batch = Batch(
            *(torch.arange(2), torch.ones(2, length + 1), torch.zeros(2), (text, text), ("", ""), 1),
            *((torch.tensor([7]),) * 2, (response, tokens)),
        )
        return batch.rollouts(ESTIMATORS["s_grpo"].build_settings({}, "here")).labels_G

    first, second = names()
    assert first != second  # by their places
    assert names() == (first, second)
    assert names(text="1+2?")[1] != second
    for tokens in (torch.arange(length + 1), torch.arange(1, length + 1), torch.cat([torch.tensor([9]), response[1:]])):
        assert names(tokens=tokens)[0] == first
        assert names(tokens=tokens)[1] != second


@pytest.mark.parametrize(
    ("name", "settings"),
    [("token_budget", {"difficulty": "running"}), ("laser_d", {}), ("hapo", {}), ("leash", {}), ("a_dlp", {}),
     ("short_rl", {}), ("toggle", {"phase_steps": 1}),
     ("custom", {"shaper": "verl_efficiency.methods.shaping.leash.leash"})],
)  # fmt: skip
def test_state_is_saved_and_restored(name, settings):
    if hasattr(ESTIMATORS[name].build_settings(settings, "here"), "max_response_length"):
        settings = {**settings, "max_response_length": LIMIT}
    straight, interrupted, forgetful = (maker_for(name, settings) for _ in range(3))
    for seed in range(2):
        ours(straight, step(seed))
        ours(interrupted, step(seed))
    resumed = maker_for(name, settings)
    resumed.load_state(json.loads(json.dumps(interrupted.dump_state())), "here")  # plain data
    assert resumed.method_state == straight.method_state != forgetful.method_state
    torch.testing.assert_close(ours(resumed, step(2)), ours(straight, step(2)), rtol=0, atol=0)


def test_a_checkpoint_of_another_method_is_refused_and_the_user_may_allow_it(tmp_path):
    leash = maker_for("leash", {})
    start = leash.method_state
    with pytest.raises(SettingsError, match=f"state of leash .*hapo.*touch {tmp_path / STARTS_AGAIN}"):
        leash.load_state({"hapo": {}}, tmp_path)
    (tmp_path / STARTS_AGAIN).touch()
    leash.load_state({"hapo": {}}, tmp_path)
    assert leash.method_state is start
    for name, settings in (("kimi", {}), ("variance_routing", {"distil": True})):  # these carry nothing
        maker_for(name, settings).load_state({}, "nowhere")
