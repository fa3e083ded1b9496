"""The driver's side of self-distillation, with workers and a storage that only remember what they are given."""

import math

import numpy as np
import pytest

pytest.importorskip("transfer_queue", reason="verl 0.8 has no TransferQueue")

import torch
import transfer_queue
from omegaconf import OmegaConf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transfer_queue import KVBatchMeta
from transformers import PreTrainedTokenizerFast
from verl.utils.tensordict_utils import nested_tensor_from_tensor_list

from verl_efficiency.adapter import teacher as teacher_module
from verl_efficiency.methods.catalog import ESTIMATORS
from verl_efficiency.methods.routing import REFERENCE
from verl_efficiency.methods.teacher import teacher_messages
from verl_efficiency.verl import run
from verl_efficiency.verl.batch import read_batch
from verl_efficiency.verl.self_teacher import SelfTeacher

K = 3
# As Qwen3's: roles, and an empty thought where thinking is switched off.
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    """One token per byte, and the special ones."""
    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bytes_ = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=bytes_,
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=TEMPLATE,
    )


@pytest.fixture
def storage(monkeypatch):
    """TransferQueue as far as it matters: fields per key; a field that not all rows have is left out silently."""
    rows: dict[str, dict] = {}

    def get(keys, partition_id, select_fields):
        assert partition_id == "train"
        shared = [name for name in select_fields if all(name in rows[key] for key in keys)]
        found = {name: [rows[key][name] for key in keys] for name in shared}
        return {
            name: nested_tensor_from_tensor_list(values, ragged_idx=1) if torch.is_tensor(values[0]) else values
            for name, values in found.items()
        }

    def put(keys, partition_id, fields):
        assert partition_id == "train"
        for name in fields.keys():  # noqa: SIM118  # a TensorDict
            for key, value in zip(keys, fields[name].unbind(), strict=True):
                rows[key][name] = value

    monkeypatch.setattr(transfer_queue, "kv_batch_get", get)
    monkeypatch.setattr(transfer_queue, "kv_batch_put", put)
    monkeypatch.setattr(transfer_queue, "kv_list", lambda partition: {partition: list(rows)})
    run.reset()
    return rows


class Workers:
    """Answer as the worker does, per distilled token: the entropy, and the log-probability in the sampled form."""

    def __init__(self, storage, ranks):
        self.storage, self._dispatch_info = storage, {"actor": list(range(ranks))}
        self.passes, self.updates, self.started = [], 0, None

    def start_distillation(self, settings):
        self.started = settings

    def teacher_log_probs(self, meta):
        assert len(meta.keys) % len(self._dispatch_info["actor"]) == 0
        self.passes.append(meta)
        for key in meta.keys:
            row = self.storage[key]
            assert set(meta.fields) <= set(row), f"{key} lacks {set(meta.fields) - set(row)}"
            tokens = int(row["distil_mask"].sum())
            generator = torch.Generator().manual_seed(sum(key.encode()))
            if not self.started.full_logit_distillation:
                row["distil_teacher_logps"] = -torch.rand(tokens, 1, generator=generator)
            row["teacher_entropy"] = torch.rand(tokens, generator=generator)

    def update_teacher(self):
        self.updates += 1


# key, score, response, mask (0: a tool wrote it)
ROWS = (
    ("a_0_0", 1.0, "yes", [1, 1, 1]),
    ("a_1_0", 0.0, "no, no", [1, 1, 0, 0, 1, 1]),
    ("a_2_0", 0.0, "nono", [1, 1, 1, 1]),
    ("b_0_0", 0.0, "b1", [1, 1]),
    ("b_1_0", 0.0, "b1234567", [1] * 8),
    ("c_0_0", 1.0, "<think>\nlong\n</think>\nright", [1] * 27),
    ("c_1_0", 1.0, "right!", [1] * 6),
    ("pad0_0_0", 0.0, "#", [0]),
)
ROUTED = [1, 2]  # by sample_routing


class Case:
    """A step: what the trainer would call, in its order."""

    def __init__(self, storage, tokenizer, method="sample_routing", ranks=1, rows=ROWS, feedback=(), data=(), **given):
        self.storage, self.tokenizer, self.workers = storage, tokenizer, Workers(storage, ranks)
        self.method = ESTIMATORS[method]
        given = ({} if "full_logit_distillation" in given else {"distillation_topk": K}) | given
        self.settings = self.method.build_settings(given, "algorithm.efficiency")
        config = OmegaConf.create(
            {
                "actor_rollout_ref": {
                    "rollout": {"temperature": 0.7, "n": 8},
                    "actor": {"ppo_max_token_len_per_gpu": 64, "use_dynamic_bsz": True},
                },
                "data": {"train_batch_size": 2048, "max_response_length": 8192} | dict(data),
                "trainer": {"nnodes": 2, "n_gpus_per_node": 8},
            }
        )
        self.teacher = SelfTeacher(self.method, self.settings, config, tokenizer)
        keys, scores, texts, masks = zip(*rows, strict=True)
        uids = [key.split("_")[0] for key in keys]
        padding = [uid.startswith("pad") for uid in uids]
        questions = [[{"role": "user", "content": f"What is {uid}?"}] for uid in uids]
        prompts = [tokenizer.apply_chat_template(q, add_generation_prompt=True, return_dict=False) for q in questions]
        for key, uid, text, mask, score, question, prompt in zip(
            *(keys, uids, texts, masks, scores, questions, prompts), strict=True
        ):
            response, mask_L = torch.tensor(tokenizer.encode(text)), torch.tensor(mask)
            assert len(response) == len(mask), key
            storage[key] = {
                "uid": uid,
                "responses": response,
                "response_mask": mask_L,
                "loss_mask": mask_L,
                "rm_scores": torch.tensor([0.0] * (len(mask) - 1) + [score]),
                "advantages": mask_L * (0.0 if key in ("a_1_0", "a_2_0") else 0.5),
                "old_log_probs": -0.1 * torch.arange(1, len(mask) + 1),
                "raw_prompt": question,
                "prompts": torch.tensor(prompt),
                "extra_fields": {"reward_extra_info": {"feedback": dict(feedback).get(key)}},
            }
        self.batch = KVBatchMeta(list(keys), [{"is_padding": pad} for pad in padding], "train", ["advantages"], {})
        self.rows = read_batch(self.batch, self.settings.reads)
        self.metrics: dict = {}

    def step(self):
        """``route``, ``teach``; the student's pass between them gives the driver nothing."""
        self.teacher.start(self.workers)
        run.begin_step(self.rows.step)
        self.teacher.route(self.batch, self.rows)
        self.teacher.teach(self.batch, self.rows, self.metrics)
        return self

    def field(self, name):
        return [self.storage[key][name] for key in self.rows.keys]

    def prompt(self, row):
        return self.tokenizer.decode(self.storage[self.rows.keys[row]]["teacher_prompts"])


def test_the_masks_are_written_and_the_top_k_is_asked_for(storage, tokenizer):
    case = Case(storage, tokenizer)
    case.teacher.start(case.workers)
    run.begin_step(case.rows.step)
    case.teacher.route(case.batch, case.rows)
    assert case.workers.started is case.settings
    assert case.batch.extra_info == {"distil_topk": K}
    assert case.batch.fields == ["advantages", "distil_mask", "distil_row"]
    assert torch.cat(case.field("distil_row")).tolist() == list(range(len(ROWS)))
    assert {mask.dtype for mask in case.field("distil_mask")} == {torch.uint8}  # a row per token of the batch
    for row, mask in enumerate(case.field("distil_mask")):
        assert mask.tolist() == (ROWS[row][3] if row in ROUTED else [0] * len(ROWS[row][3]))


@pytest.mark.parametrize(
    ("given", "total", "per_rank"),  # 2048 · 8 rollouts of 8192 tokens are 2**27 tokens; 16 ranks
    [
        ({"distillation_topk": 100}, "75 GiB", "4.69 GiB"),  # · 100 · (4 + 2) bytes
        ({"distillation_topk": 100, "target_dtype": "float32"}, "100 GiB", "6.25 GiB"),
        ({"distillation_topk": 4}, "3 GiB", "0.188 GiB"),
    ],
)
def test_the_memory_of_the_targets_is_said_at_the_start(storage, tokenizer, capsys, given, total, per_rank):
    case = Case(storage, tokenizer, **given)
    case.teacher.start(case.workers)
    (line,) = capsys.readouterr().out.splitlines()
    for part in ("sample_routing", total, per_rank, "algorithm.efficiency.distillation_topk"):
        assert part in line


def test_the_sampled_form_stores_no_targets(storage, tokenizer, capsys):
    case = Case(storage, tokenizer, full_logit_distillation=False, alpha=1.0)
    case.teacher.start(case.workers)
    assert capsys.readouterr().out == ""


def test_weights_are_normalised_over_all_routed_tokens(storage, tokenizer):
    case = Case(storage, tokenizer, entropy_beta=2.0).step()
    entropy = torch.cat([storage[ROWS[row][0]]["teacher_entropy"] for row in ROUTED]).double()
    assert len(entropy) == 4 + 4
    wanted = torch.exp(-2.0 * entropy)
    wanted = (wanted / wanted.mean()).tolist()
    for row, weight in enumerate(case.field("distil_weight")):
        mask = ROWS[row][3]
        assert len(weight) == len(mask)
        if row in ROUTED:
            mine, wanted = wanted[: sum(mask)], wanted[sum(mask) :]
            assert weight[torch.tensor(mask).bool()].tolist() == pytest.approx(mine, rel=1e-6)
            assert not weight[~torch.tensor(mask).bool()].any()
        else:
            assert not weight.any()
    assert case.metrics["sample_routing/weight_largest"] == pytest.approx(
        max(weight.max().item() for weight in case.field("distil_weight"))
    )
    assert case.metrics["sample_routing/teacher_entropy"] == pytest.approx(entropy.mean().item())


def test_every_row_has_every_field_afterwards(storage, tokenizer):
    case = Case(storage, tokenizer).step()
    assert {"distil_mask", "distil_row", "distil_weight"} <= set.intersection(*map(set, storage.values()))
    assert not any("distil_topk_ids" in row or "distil_teacher_logps" in row for row in storage.values())
    assert case.batch.fields is None  # verl hands the update everything that the rows have
    assert case.field("advantages")[0].tolist() == [0.5] * 3


def test_the_pass_is_described_to_verl(storage, tokenizer):
    case = Case(storage, tokenizer).step()
    (meta,) = case.workers.passes
    assert meta.partition_id == "train"
    assert sorted(meta.keys) == ["a_1_0", "a_2_0"]
    longest = max(len(storage[key]["teacher_prompts"]) + len(storage[key]["responses"]) for key in meta.keys)
    assert longest > 64  # longer than a micro-batch of the actor may be
    assert meta.extra_info == {
        "temperature": 0.7,
        "calculate_entropy": False,
        "use_dynamic_bsz": True,
        "max_token_len_per_gpu": longest,
    }


@pytest.mark.parametrize(("ranks", "filled"), [(2, ["pad0_0_0", "c_1_0"]), (4, ["b_1_0", "pad0_0_0"])])
def test_rows_are_filled_up_to_as_many_for_every_rank(storage, tokenizer, ranks, filled):
    case = Case(storage, tokenizer, ranks=ranks).step()
    (meta,) = case.workers.passes
    assert sorted(meta.keys) == sorted(["a_1_0", "a_2_0", *filled])
    for key in filled:
        assert torch.equal(storage[key]["teacher_prompts"], storage[key]["prompts"])
    assert case.metrics["sample_routing/teacher_rows"] == 2
    assert case.metrics["sample_routing/teacher_tokens"] == sum(
        len(storage[key]["teacher_prompts"]) + len(storage[key]["responses"]) for key in meta.keys
    )


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("method", ["sample_routing", "self_distillation", "concise_teacher"])
def test_the_teachers_pass_gives_each_rank_rows_that_it_has_in_the_update(storage, tokenizer, method, ranks):
    case = Case(storage, tokenizer, method, ranks=ranks)
    case.batch.keys = [case.batch.keys[row] for row in (5, 1, 7, 2, 0, 3, 4, 6)]  # as verl balanced them
    case.step()
    (meta,) = case.workers.passes
    parts = [set(part.keys) for part in case.batch.chunk(ranks)]
    given = [part.keys for part in meta.chunk(ranks)]
    taught = {case.rows.keys[row] for row in case.teacher.plan_of_step.taught}
    assert taught <= set(meta.keys)
    assert len(meta.keys) == len(set(meta.keys))
    assert all(set(keys) <= part for keys, part in zip(given, parts, strict=True))
    assert {len(keys) for keys in given} == {max(len(part & taught) for part in parts)}


def test_with_nothing_routed_nothing_happens(storage, tokenizer):
    rows = tuple(row for row in ROWS if row[0][0] in "bc")
    case = Case(storage, tokenizer, rows=rows)
    before = {key: set(row) for key, row in storage.items()}
    case.step()
    assert {key: set(row) for key, row in storage.items()} == before
    assert case.workers.passes == []
    assert (case.batch.extra_info, case.batch.fields) == ({}, ["advantages"])
    assert case.metrics == {"sample_routing/teacher_rows": 0.0}


def test_metrics_of_a_step(storage, tokenizer):
    case = Case(storage, tokenizer, feedback={"a_1_0": "almost"}.items()).step()
    names = ("teacher_rows", "teacher_prompt_tokens", "teacher_tokens", "teacher_entropy")
    names += ("weight_largest", "weight_smallest", "feedback_share")
    assert {f"sample_routing/{name}" for name in names} <= set(case.metrics)
    assert all(isinstance(value, float | int) and math.isfinite(value) for value in case.metrics.values())
    prompts = [len(storage[key]["teacher_prompts"]) for key in ("a_1_0", "a_2_0")]
    assert case.metrics["sample_routing/teacher_prompt_tokens"] == sum(prompts) / 2
    assert case.metrics["sample_routing/feedback_share"] == 0  # a demonstration is there
    assert case.metrics["sample_routing/distil_token_share"] == pytest.approx(8 / 54)
    run.reset()
    case = Case(storage, tokenizer, "self_distillation").step()
    assert case.metrics["self_distillation/distil_token_share"] == 1  # the others are skipped


def test_rows_that_are_skipped_leave_loss_and_denominator(storage, tokenizer):
    case = Case(storage, tokenizer, "self_distillation").step()
    kept = [
        0 if row in (0, 3, 4) else sum(ROWS[row][3]) for row in range(len(ROWS))
    ]  # a_0: no other is correct; b: nobody
    assert [int(mask.sum()) for mask in case.field("response_mask")] == kept
    assert [int(mask.sum()) for mask in case.field("loss_mask")] == kept
    assert [len(mask) for mask in case.field("response_mask")] == [len(row[3]) for row in ROWS]
    assert case.metrics["self_distillation/teacher_rows"] == 4


def test_a_batch_of_skipped_rows_only_is_left_to_verl(storage, tokenizer):
    """Its advantages are 0 already, and a batch without a single token is none that verl's metrics can take."""
    rows = tuple(row for row in ROWS if row[0][0] in "bp")
    case = Case(storage, tokenizer, "self_distillation", rows=rows).step()
    assert [int(mask.sum()) for mask in case.field("response_mask")] == [2, 8, 0]
    assert case.workers.passes == []


def test_the_sampled_form_becomes_advantages(storage, tokenizer):
    case = Case(storage, tokenizer, full_logit_distillation=False, alpha=1.0, entropy_beta=0.5).step()
    assert "distil_topk" not in case.batch.extra_info
    assert all("distil_weight" not in row for row in storage.values())
    gaps = []
    entropy = torch.cat([storage[ROWS[row][0]]["teacher_entropy"] for row in ROUTED]).double()
    weights = iter((torch.exp(-0.5 * entropy) / torch.exp(-0.5 * entropy).mean()).tolist())
    for row, advantages in enumerate(case.field("advantages")):
        mask, stored = ROWS[row][3], storage[ROWS[row][0]]
        if row not in ROUTED:
            assert advantages.tolist() == [0.5 * real for real in mask]
            continue
        said = iter(stored["distil_teacher_logps"][:, 0].tolist())
        for token, real in enumerate(mask):
            if not real:
                assert advantages[token] == 0
                continue
            gaps.append(next(said) - stored["old_log_probs"][token].item())
            assert advantages[token].item() == pytest.approx(next(weights) * gaps[-1], rel=1e-5)
    assert case.metrics["sample_routing/sampled_kl"] == pytest.approx(-np.mean(gaps), rel=1e-5)


@pytest.mark.parametrize(("norm", "moves"), [(0.3, True), (0.0, True), (math.nan, False), (math.inf, False)])
def test_the_average_does_not_follow_a_gradient_that_verl_threw_away(storage, tokenizer, norm, moves):
    case = Case(storage, tokenizer)
    case.teacher.start(case.workers)
    metrics = {"actor/grad_norm": norm}
    case.teacher.update(metrics, 1, metrics["actor/grad_norm"])
    assert case.workers.updates == moves
    assert metrics["sample_routing/teacher_updated"] == float(moves)


def test_the_concise_teacher_is_told_to_be_concise_whatever_the_score(storage, tokenizer):
    case = Case(storage, tokenizer, "concise_teacher", instruction_template="{prompt} Briefly: {{x}}.").step()
    assert [int(mask.sum()) for mask in case.field("distil_mask")] == [3, 4, 4, 2, 8, 27, 6, 0]
    for row, key in enumerate(case.rows.keys[:-1]):
        question = f"What is {key.split('_')[0]}? Briefly: {{x}}."
        assert case.prompt(row) == f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    weights = torch.cat(case.field("distil_weight"))
    assert weights.unique().tolist() == [0, 1]
    assert case.metrics["concise_teacher/teacher_rows"] == 7


@pytest.mark.parametrize(("given", "moved"), [({}, [50, 100]), ({"teacher_refresh_steps": 40}, [40, 80, 120])])
def test_the_concise_teacher_is_refreshed_by_the_number_of_the_step(storage, tokenizer, given, moved):
    """So a run that was resumed in between refreshes at the same steps."""
    case = Case(storage, tokenizer, "concise_teacher", **given)
    case.teacher.start(case.workers)
    assert case.workers.started.teacher_update_rate == 1
    updates = []
    for step in range(1, 121):
        case.teacher.update({}, step, 1.0)
        updates.append(case.workers.updates)
    assert [step for step in range(1, 121) if updates[step - 1] > ([0, *updates][step - 1])] == moved


def test_without_an_average_there_is_nothing_to_update(storage, tokenizer):
    case = Case(storage, tokenizer, teacher_regularization="none")
    case.teacher.start(case.workers)
    metrics = {"actor/grad_norm": 1.0}
    case.teacher.update(metrics, 1, metrics["actor/grad_norm"])
    assert (case.workers.updates, metrics) == (0, {"actor/grad_norm": 1.0})


def test_the_teachers_prompt_through_the_models_template(storage, tokenizer):
    case = Case(storage, tokenizer).step()
    assert (
        case.prompt(1)
        == case.prompt(2)
        == (
            "<|im_start|>user\nWhat is a?\nCorrect solution:\n\nyes\n\nCorrectly solve the original question.<|im_end|>\n"
            "<|im_start|>assistant\n"
        )
    )


@pytest.mark.parametrize("at_once", [1, 2, 64])
@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("sample_routing", {"environment_feedback_only_without_solution": False}),
        ("self_distillation", {"demonstration": "shortest", "dont_reprompt_on_self_success": False}),
        ("self_distillation", {"remove_thinking_from_demonstration": False, "max_reprompt_len": 90}),
        ("concise_teacher", {}),
        ("variance_routing", {"distil": True, "reference_column": "extra_info.solution"}),
    ],
)
def test_prompts_made_together_equal_those_made_alone(storage, tokenizer, monkeypatch, method, given, at_once):
    monkeypatch.setattr(teacher_module, "AT_ONCE", at_once)
    feedback = {"a_1_0": "almost", "a_2_0": "almost", "b_0_0": "no", "b_1_0": "not even close"}
    case = Case(storage, tokenizer, method, feedback=feedback.items(), **given)
    for key, row in storage.items():
        row["extra_info"] = {"solution": f"the reference of {key[0]}"}
    plan = case.step().teacher.plan_of_step
    assert len(plan.taught) >= 3
    for row in plan.taught:
        key, source = case.rows.keys[row], int(plan.routes.source_B[row])
        shown = f"the reference of {key[0]}" if source == REFERENCE else ROWS[source][2] if source >= 0 else None
        told = feedback[key] if plan.routes.feedback_B[row] else None
        messages = teacher_messages(storage[key]["raw_prompt"], shown, told, case.settings)
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert storage[key]["teacher_prompts"].tolist() == ids[: case.settings.max_reprompt_len]


def test_each_demonstration_is_decoded_once_and_each_prompt_is_made_once(storage, tokenizer, monkeypatch):
    class Counting:
        decoded, rendered = [], []

        def batch_decode(self, responses, **options):
            self.decoded += responses
            return tokenizer.batch_decode(responses, **options)

        def apply_chat_template(self, conversations, **options):
            self.rendered += conversations
            return tokenizer.apply_chat_template(conversations, **options)

    case = Case(storage, tokenizer, rows=(ROWS[0], *((f"a_{n}_0", 0.0, "n" * n, [1] * n) for n in range(1, 40))))
    case.teacher.tokenizer = Counting()
    case.step()
    assert case.metrics["sample_routing/teacher_rows"] == 39
    assert Counting.decoded == [tokenizer.encode("yes")]
    assert [chat[0]["content"] for chat in Counting.rendered].count("What is a?") == 1  # the student's, to compare
    assert len(Counting.rendered) == 2


@pytest.mark.parametrize("tools", [False, True])
def test_a_student_that_is_shown_more_than_its_messages_is_noticed_once(storage, tokenizer, caplog, tools):
    case = Case(storage, tokenizer)
    if tools:
        shown = torch.tensor(tokenizer.encode("You have a calculator.\n"))
        for row in storage.values():
            row["prompts"] = torch.cat([shown, row["prompts"]])
    for _ in range(2):
        case.step()
    said = [record.message for record in caplog.records if "not what the tokenizer's chat template" in record.message]
    assert len(said) == tools


def test_the_users_template_arguments_reach_it(storage, tokenizer):
    data = {"apply_chat_template_kwargs": {"enable_thinking": False}}.items()
    case = Case(storage, tokenizer, data=data).step()
    assert case.prompt(1).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


@pytest.mark.parametrize(
    ("strip", "shown"), [(True, "\n\nright\n\n"), (False, "\n\n<think>\nlong\n</think>\nright\n\n")]
)
def test_thinking_is_stripped_from_a_demonstration(storage, tokenizer, strip, shown):
    given = {"remove_thinking_from_demonstration": strip}
    case = Case(storage, tokenizer, "self_distillation", **given).step()
    assert shown in case.prompt(6)
    assert "right!" in case.prompt(5)  # and not its own


@pytest.mark.parametrize(("side", "part"), [("right", slice(None, 20)), ("left", slice(-20, None))])
def test_a_long_prompt_is_cut(storage, tokenizer, side, part):
    case = Case(storage, tokenizer).step()
    long = storage["a_1_0"]["teacher_prompts"]
    Case(storage, tokenizer, max_reprompt_len=20, reprompt_truncation=side).step()
    assert torch.equal(storage["a_1_0"]["teacher_prompts"], long[part])
    assert len(long) > 20
    assert case.metrics["sample_routing/teacher_prompt_tokens"] == len(long)


def test_a_long_prompt_is_refused_if_asked_for(storage, tokenizer):
    with pytest.raises(ValueError, match="more than max_reprompt_len=20; raise it, or set reprompt_truncation"):
        Case(storage, tokenizer, max_reprompt_len=20, reprompt_truncation="error").step()


def test_feedback_stands_in_the_prompt_of_a_rollout_without_a_demonstration(storage, tokenizer):
    feedback = {"a_1_0": "almost", "b_0_0": "not even close", "b_1_0": "  "}.items()
    case = Case(storage, tokenizer, feedback=feedback).step()
    assert case.metrics["sample_routing/teacher_rows"] == 3  # a_1, a_2 and b_0
    assert "unsuccessful earlier attempt:\n\nnot even close\n\n" in case.prompt(3)
    assert "Correct solution" not in case.prompt(3)
    assert "almost" not in case.prompt(1)
    assert case.metrics["sample_routing/feedback_share"] == pytest.approx(1 / 3)
    run.reset()
    both = {"environment_feedback_only_without_solution": False}
    case = Case(storage, tokenizer, feedback=feedback, **both).step()
    assert "Correct solution:\n\nyes" in case.prompt(1)
    assert "almost" in case.prompt(1)


def test_a_prompt_with_pictures_is_refused(storage, tokenizer):
    case = Case(storage, tokenizer)
    for key in ("a_1_0", "a_2_0"):
        storage[key]["raw_prompt"][0]["content"] = [{"type": "image"}, {"type": "text", "text": "What is a?"}]
    with pytest.raises(ValueError, match="self-distillation is for text prompts; this one holds list"):
        case.step()


def test_a_reference_solution_of_the_data_set_teaches_an_all_wrong_group(storage, tokenizer):
    given = {"distil": True, "reference_column": "extra_info.solution"}
    case = Case(storage, tokenizer, "variance_routing", **given)
    for key, row in storage.items():
        row["extra_info"] = {"solution": "the reference" if key.startswith("b") else None}
    case.step()
    assert case.metrics["variance_routing/teacher_rows"] == 3  # both b, and c_0 learns from its shorter sibling
    assert "Correct solution:\n\nthe reference\n\n" in case.prompt(3)
    assert "Correct solution:\n\nright!\n\n" in case.prompt(5)


def test_correct_responses_are_stored_and_serve_later(storage, tokenizer):
    given = {"distil": True, "store_responses": True}
    case = Case(storage, tokenizer, "variance_routing", **given).step()
    state = run.state_of(case.method)
    assert sorted(state.texts.values()) == ["right!", "yes"]  # the shortest of each prompt that anyone solved
    assert case.metrics["variance_routing/stored_responses"] == 2
    assert [int(mask.sum()) for mask in case.field("response_mask")][3:5] == [0, 0]  # b: nothing to learn from

    later = tuple((key, 0.0, text, mask) for key, _, text, mask in ROWS if not key.startswith("c"))
    storage.clear()
    case = Case(storage, tokenizer, "variance_routing", rows=later, **given).step()
    assert case.metrics["variance_routing/teacher_rows"] == 3  # all of a, which is all wrong now
    assert "Correct solution:\n\nyes\n\n" in case.prompt(0)


def test_a_router_of_the_users_own(storage, tokenizer):
    case = Case(storage, tokenizer, router="tests.contract.test_self_teacher.teach_the_first").step()
    assert case.workers.passes[0].keys == ["a_0_0"]
    assert "Correct solution:\n\nno, no\n\n" in case.prompt(0)


def teach_the_first(rollouts, settings):
    from verl_efficiency.methods.routing import DISTIL, GRPO, NO_SOURCE, SKIP, Routes

    first_B = torch.arange(len(rollouts.scores_B)) == 0
    return Routes(
        route_B=torch.where(first_B, DISTIL, torch.where(rollouts.real_B, GRPO, SKIP)),
        source_B=torch.where(first_B, 1, NO_SOURCE),
        feedback_B=torch.zeros_like(first_B),
    )
