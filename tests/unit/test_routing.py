"""Routing: every case by hand on a small batch, and what your own router may and may not return."""

import dataclasses
import math

import pytest
import torch

from verl_efficiency.methods.distillation import entropy_weights
from verl_efficiency.methods.rollouts import Rollouts
from verl_efficiency.methods.routing import (
    DISTIL,
    GRPO,
    INSTRUCTION,
    NO_SOURCE,
    REFERENCE,
    SKIP,
    Routes,
    demonstrations,
    route,
)
from verl_efficiency.methods.routing.concise_teacher import (
    ConciseTeacherSettings,
    concise_teacher,
    route_to_instruction,
)
from verl_efficiency.methods.routing.sample_routing import SampleRoutingSettings, route_by_sample, sample_routing
from verl_efficiency.methods.routing.self_distillation import SelfDistillationSettings, route_all, self_distillation
from verl_efficiency.methods.routing.variance_routing import (
    StoredResponses,
    VarianceRoutingSettings,
    route_by_variance,
    variance_routing,
)
from verl_efficiency.methods.teacher import DistillationSettings, teacher_messages, truncate_prompt
from verl_efficiency.settings import SettingsError

LIMIT = 10
# group, score, length: none right; one right; all right, two equally short; the only right one was cut off; padding
CASES = [
    *[("none", 0.0, 4), ("none", 0.0, 5)],
    *[("one", 0.0, 4), ("one", 1.0, 6), ("one", 0.0, 3)],
    *[("all", 1.0, 7), ("all", 1.0, 5), ("all", 1.0, 5)],
    *[("cut", 1.0, LIMIT), ("cut", 0.0, 2)],
    ("pad", 0.0, 0),
]


def batch(**more) -> Rollouts:
    groups, scores, lengths = zip(*CASES, strict=True)
    rollouts = Rollouts.build(
        torch.tensor(scores), torch.tensor(lengths), groups, real_B=torch.tensor([group != "pad" for group in groups])
    )
    return dataclasses.replace(rollouts, **more)


def kinds(routes: Routes) -> str:
    return "".join("gds"[int(kind)] for kind in routes.route_B)


def test_sample_routing_of_every_case():
    routes = route_by_sample(batch(), SampleRoutingSettings())
    assert kinds(routes) == "gg" "dgd" "ggg" "gd" "s"  # fmt: skip
    assert routes.source_B.tolist() == [-1, -1, 3, -1, 3, -1, -1, -1, -1, 8, -1]
    outcome = sample_routing(batch(), SampleRoutingSettings())
    # r − mean over the whole group, also the routed part of it
    expected = [0, 0, 0, 1 - 1 / 3, 0, 0, 0, 0, 0.5, 0, 0]
    assert outcome.advantages_B.tolist() == pytest.approx(expected)
    assert outcome.metrics == {"grpo_share": 0.7, "distil_share": 0.3, "skip_share": 0.0}


def test_the_concise_teacher_of_every_case():
    routes = route_to_instruction(batch(), ConciseTeacherSettings())
    assert kinds(routes) == "dddddddddds"
    assert routes.source_B.tolist() == [INSTRUCTION] * 10 + [NO_SOURCE]
    assert concise_teacher(batch(), ConciseTeacherSettings()).advantages_B.tolist() == [0] * 11
    message = [{"role": "user", "content": "1+1?"}]
    settings = ConciseTeacherSettings(instruction_template="Be brief. {prompt}")
    assert teacher_messages(message, None, None, settings) == [{"role": "user", "content": "Be brief. 1+1?"}]
    assert message[0]["content"] == "1+1?"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"instruction_template": "be brief"}, "instruction_template"),
        ({"instruction_template": "{prompt} {x}"}, "instruction_template"),
        ({"demonstration": "shortest"}, "demonstration"),
        ({"include_environment_feedback": False}, "include_environment_feedback"),
        ({"reprompt_template": "{prompt}{solution}{feedback}"}, "reprompt_template"),
        ({"teacher_refresh_steps": 0}, "teacher_refresh_steps"),
        ({"teacher_regularization": "none", "teacher_refresh_steps": 10}, "teacher_refresh_steps"),
    ],
)
def test_the_concise_teacher_refuses_what_it_does_not_use(given, named):
    with pytest.raises(SettingsError, match=f"^{named}: "):
        ConciseTeacherSettings(**given)
    ConciseTeacherSettings(teacher_regularization="none")


def test_a_truncated_answer_is_a_demonstration_only_if_allowed():
    settings = SampleRoutingSettings(truncated_demonstrations=False, max_response_length=LIMIT)
    assert kinds(route_by_sample(batch(), settings)) == "gg" "dgd" "ggg" "gg" "s"  # fmt: skip
    # The one right answer of "one" was cut off too, in the words of a tool.
    responses = tuple(torch.zeros(LIMIT if row == 3 else length) for row, (_, _, length) in enumerate(CASES))
    assert settings.reads_responses
    assert kinds(route_by_sample(batch(responses_B=responses), settings)) == "gg" "ggg" "ggg" "gg" "s"  # fmt: skip
    with pytest.raises(SettingsError, match="max_response_length"):
        route_by_sample(batch(), SampleRoutingSettings(truncated_demonstrations=False))


def test_self_distillation_of_every_case():
    routes = route_all(batch(), SelfDistillationSettings())
    assert kinds(routes) == "ss" "dsd" "ddd" "sd" "s"  # fmt: skip
    assert routes.source_B.tolist() == [-1, -1, 3, -1, 3, 6, 5, 5, -1, 8, -1]
    assert self_distillation(batch(), SelfDistillationSettings()).advantages_B.abs().sum() == 0
    own = route_all(batch(), SelfDistillationSettings(dont_reprompt_on_self_success=False))
    assert kinds(own) == "ss" "ddd" "ddd" "dd" "s"  # fmt: skip
    assert own.source_B.tolist() == [-1, -1, 3, 3, 3, 5, 5, 5, 8, 8, -1]


def test_variance_routing_of_every_case():
    settings = VarianceRoutingSettings(distil=True, advantage="dr_grpo")
    assert kinds(route_by_variance(batch(), settings)) == "ss" "ggg" "dsd" "gg" "s"  # fmt: skip
    assert route_by_variance(batch(), settings).source_B.tolist() == [-1, -1, -1, -1, -1, 6, -1, 6, -1, -1, -1]
    known = batch(references_G=("the solution", None, None, None, None))
    routes = route_by_variance(known, settings)
    assert kinds(routes) == "dd" "ggg" "dsd" "gg" "s"  # fmt: skip
    assert routes.source_B.tolist()[:2] == [REFERENCE, REFERENCE]
    expected = [0, 0, -1 / 3, 2 / 3, -1 / 3, 0, 0, 0, 0.5, -0.5, 0]
    assert variance_routing(known, settings).advantages_B.tolist() == pytest.approx(expected)


def test_the_shortest_demonstration_and_its_ties():
    assert demonstrations(batch(), DistillationSettings(demonstration="shortest")).tolist() == [
        *(-1, -1, 3, -1, 3, 6, 7, 6, -1, 8, -1)
    ]


def test_feedback():
    said = batch(feedback_B=("off by one", None, "no", "fine", "no", *[None] * 6))
    settings = SampleRoutingSettings()
    routes = route_by_sample(said, settings)
    assert kinds(routes) == "dg" "dgd" "ggg" "gd" "s"  # fmt: skip
    assert routes.feedback_B.nonzero().flatten().tolist() == [0], "where there is a sibling it is shown instead"
    both = dataclasses.replace(settings, environment_feedback_only_without_solution=False)
    assert route_by_sample(said, both).feedback_B.nonzero().flatten().tolist() == [0, 2, 4]
    assert kinds(route_by_sample(said, dataclasses.replace(settings, include_environment_feedback=False)))[0] == "g"
    alone = route_all(said, SelfDistillationSettings())
    assert kinds(alone) == "ds" "ddd" "ddd" "sd" "s"  # fmt: skip


def test_entropy_weights_by_hand():
    # exp(−β H) = 1, ½, ¼ with mean 7/12
    weights = entropy_weights(torch.tensor([0.0, math.log(2), math.log(4)]), 1.0)
    assert weights.tolist() == pytest.approx([12 / 7, 6 / 7, 3 / 7])
    assert entropy_weights(torch.tensor([0.3, 2.0]), 0.0).tolist() == [1.0, 1.0]


def everything_to_the_first(rollouts: Rollouts, settings: DistillationSettings) -> Routes:
    rows = len(rollouts.scores_B)
    return Routes(
        torch.full((rows,), DISTIL), torch.zeros(rows, dtype=torch.int64), torch.zeros(rows, dtype=torch.bool)
    )


def nothing(rollouts: Rollouts, settings: DistillationSettings) -> Routes:
    rows = len(rollouts.scores_B)
    none = torch.full((rows,), NO_SOURCE)
    return Routes(torch.where(rollouts.real_B, GRPO, SKIP), none, torch.zeros(rows, dtype=torch.bool))


def test_a_router_of_ones_own():
    settings = SampleRoutingSettings(router=f"{__name__}.nothing")
    assert settings.reads_responses
    assert not SampleRoutingSettings().reads_responses
    assert sample_routing(batch(), settings).metrics["distil_share"] == 0
    with pytest.raises(ValueError, match=r"rollout 2 is 0.*group"):
        route(route_by_sample, batch(), SampleRoutingSettings(router=f"{__name__}.everything_to_the_first"))
    for wrong in ("no.such.module", f"{__name__}.no_such_name", "nodots"):
        with pytest.raises(SettingsError, match="cannot be imported"):
            route(route_by_sample, batch(), SampleRoutingSettings(router=wrong))
    with pytest.raises(SettingsError, match="not a function"):
        route(route_by_sample, batch(), SampleRoutingSettings(router=f"{__name__}.LIMIT"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"route_B": torch.full((11,), DISTIL)}, "neither a demonstration nor feedback"),
        ({"route_B": torch.full((3,), GRPO)}, "one entry per rollout"),
        ({"route_B": torch.full((11,), DISTIL), "source_B": torch.full((11,), REFERENCE)}, "its prompt has none"),
    ],
)
def test_routes_that_nobody_can_execute(change, complaint):
    routes = dataclasses.replace(nothing(batch(), DistillationSettings()), **change)
    with pytest.raises(ValueError, match=complaint):
        route(lambda rollouts, settings: routes, batch(), DistillationSettings())
    with pytest.raises(ValueError, match="must return"):
        route(lambda rollouts, settings: None, batch(), DistillationSettings())


def offered(store, limit, *rows):
    """Offers rollouts ``(prompt, score, length, text)``. Returns the texts asked for, and how many did not fit."""
    prompts, scores, lengths, texts = zip(*rows, strict=True)
    rollouts = Rollouts.build(torch.tensor(scores), torch.tensor(lengths), prompts)
    asked = []
    refused = store.offer_all(
        dataclasses.replace(rollouts, prompt_ids_G=rollouts.labels_G),
        lambda row: (asked.append(texts[row]), texts[row])[1],
        limit,
    )
    return asked, refused


def test_the_shortest_correct_response_is_kept():
    store = StoredResponses()
    rows = [
        ("p", 1.0, 9, "long"),
        ("p", 1.0, 3, "short"),
        ("p", 1.0, 5, "middle"),
        ("p", 0.0, 1, "wrong"),
        ("q", 0.0, 1, "no"),
    ]
    assert offered(store, 100, *rows) == (["long", "short"], 0)
    assert store == StoredResponses({"p": "short"}, {"p": 3})


def test_stored_responses_stay_within_their_limit():
    store = StoredResponses()
    assert offered(store, 10, ("p", 1.0, 9, "12345"), ("q", 1.0, 9, "123456"), ("r", 1.0, 9, "12345"))[1] == 1
    assert store.texts == {"p": "12345", "r": "12345"}
    # Full: a shorter response to a stored prompt takes the place of the longer one, and frees what it saves.
    assert offered(store, 10, ("p", 1.0, 8, "1234567"), ("p", 1.0, 7, "123"), ("q", 1.0, 2, "12"))[1] == 1
    assert store.texts == {"p": "123", "r": "12345", "q": "12"}
    # A resumed run with a lower limit keeps what it has; only what makes it smaller is stored.
    assert offered(store, 4, ("r", 1.0, 1, "1"), ("s", 1.0, 1, "1"))[1] == 1
    assert store.texts == {"p": "123", "r": "1", "q": "12"}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"distil": True, "stored_characters": 5}, "nothing is stored without store_responses=True"),
        ({"distil": True, "store_responses": True, "stored_characters": 0}, "stored_characters: must be"),
        ({"store_responses": True}, "only the teacher uses it"),
    ],
)
def test_settings_of_stored_responses_that_mean_nothing(given, complaint):
    with pytest.raises(SettingsError, match=complaint):
        VarianceRoutingSettings(**given)


def test_the_teachers_prompt():
    question = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is {x}?"}]
    settings = DistillationSettings()
    told = teacher_messages(question, "<think>a\nb</think> It is {2}.", "Wrong sign.", settings)
    assert told[0] == question[0]
    assert told[1]["content"] == (
        "What is {x}?\nCorrect solution:\n\nIt is {2}."
        "\nThe following is feedback from your unsuccessful earlier attempt:\n\nWrong sign."
        "\n\nCorrectly solve the original question."
    )
    kept = dataclasses.replace(settings, remove_thinking_from_demonstration=False)
    assert (
        "<think>a\nb</think> It is"
        in teacher_messages(question, "<think>a\nb</think> It is {2}.", None, kept)[1]["content"]
    )
    lone = teacher_messages(question, "a\nb</think> It is {2}.", None, settings)[1]["content"]
    assert "Correct solution:\n\nIt is {2}." in lone
    assert (
        "solution:\n\n<think>only</think>"
        in teacher_messages(question, "<think>only</think>", None, settings)[1]["content"]
    )
    assert question[1]["content"] == "What is {x}?", "the student's prompt is left alone"
    with pytest.raises(ValueError, match="knows no more"):
        teacher_messages(question, None, "", settings)
    with pytest.raises(ValueError, match="text prompts"):
        teacher_messages([{"role": "user", "content": [{"type": "image"}]}], "x", None, settings)


def test_a_long_prompt_is_cut():
    settings = DistillationSettings(max_reprompt_len=3)
    assert truncate_prompt([1, 2, 3], settings) == [1, 2, 3]
    assert truncate_prompt([1, 2, 3, 4], settings) == [1, 2, 3]
    assert truncate_prompt([1, 2, 3, 4], dataclasses.replace(settings, reprompt_truncation="left")) == [2, 3, 4]
    with pytest.raises(ValueError, match="max_reprompt_len=3"):
        truncate_prompt([1, 2, 3, 4], dataclasses.replace(settings, reprompt_truncation="error"))


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"alpha": 1.5}, "alpha"),
        ({"full_logit_distillation": False}, "alpha: must be 1"),
        ({"distillation_topk": 0}, "distillation_topk"),
        ({"is_clip": 0.0}, "is_clip"),
        ({"teacher_update_rate": 2.0}, "teacher_update_rate"),
        ({"solution_template": "nothing"}, "successful_previous_attempt"),
        ({"feedback_template": "{feedback_raw} {x}"}, "feedback_template"),
        ({"reprompt_template": "{prompt}{solution}{feedback}{"}, "reprompt_template"),
    ],
)
def test_wrong_settings(wrong, complaint):
    with pytest.raises(SettingsError, match=complaint):
        DistillationSettings(**wrong)


@pytest.mark.parametrize(
    ("without", "ignored"),
    [
        ({"full_logit_distillation": False, "alpha": 1.0}, {"distillation_topk": 20}),
        ({"full_logit_distillation": False, "alpha": 1.0}, {"distillation_add_tail": False}),
        ({"full_logit_distillation": False, "alpha": 1.0}, {"is_clip": None}),
        ({"teacher_regularization": "none"}, {"teacher_update_rate": 0.2}),
    ],
)
def test_settings_that_would_do_nothing(without, ignored):
    DistillationSettings(**without)
    DistillationSettings(**ignored)
    with pytest.raises(SettingsError, match=f"{next(iter(ignored))}: must be left out: {next(iter(without))}="):
        DistillationSettings(**without, **ignored)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"teacher_update_rate": 0.1}, "set distil=True"),
        ({"reference_column": "x"}, "set distil=True"),
        ({"distil": True, "reference_weight": 2.0}, "without a teacher"),
        ({"distil": True, "demonstration": "shortest"}, "does not use it"),
    ],
)
def test_settings_of_variance_routing_that_would_do_nothing(wrong, complaint):
    with pytest.raises(SettingsError, match=complaint):
        VarianceRoutingSettings(**wrong)
