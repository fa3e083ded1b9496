"""Our flags beside the stock ones, through the real command line of OpenRLHF."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from verl_efficiency.openrlhf import start_up
from verl_efficiency.openrlhf.options import Options, take_options
from verl_efficiency.openrlhf.train import help_text, launch
from verl_efficiency.settings import SettingsError

from .launching import parse
from .world import label


def test_settings_travel_and_stock_flags_stay(stock):
    args = parse(["--efficiency.method", "token_budget", "--efficiency.penalty", "0.5", "--efficiency.b_min=7", *stock])
    assert args.efficiency.method == "token_budget"
    assert args.efficiency.build_settings().penalty == 0.5
    assert args.efficiency.build_settings().b_min == 7.0
    assert args.algo.advantage.estimator == "group_norm"  # not gae, which would bring a critic
    assert args.critic.model_name_or_path is None
    assert args.rollout.max_new_tokens == 40
    assert args.actor.adam.lr == 1e-3


def test_the_limit_on_tokens_is_handed_over(stock):
    assert parse(["--efficiency.method", "dast", *stock]).efficiency.build_settings().max_response_length == 40
    flags = ["--efficiency.method", "dast", "--efficiency.max_response_length", "30", *stock]
    assert parse(flags).efficiency.build_settings().max_response_length == 30


def test_reward_alone_leaves_the_advantages_to_openrlhf(stock):
    args = parse(["--efficiency.reward", "accuracy", "--algo.advantage.estimator", "rloo", *stock])
    assert args.efficiency == Options(reward="accuracy")
    assert args.train.agent_func_path == start_up.reward_file("accuracy")
    assert args.algo.advantage.estimator == "rloo"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--efficiency.methd kimi", "--efficiency.method: is missing"),
        ("--efficency.method kimi", "--efficency.method: unknown flag; ours are --efficiency.<name>"),
        ("--efficiency-method kimi", "--efficiency-method: unknown flag; ours are --efficiency.<name>"),
        ("--efficiency.method kimmi", "--efficiency.method: unknown method 'kimmi'; did you mean 'kimi'?"),
        ("--efficiency.method accuracy", "write --efficiency.reward accuracy"),
        ("--efficiency.method kimi --efficiency.wieght 1", "--efficiency: unknown setting 'wieght'; did you mean 'weight'?"),
        ("--efficiency.method kimi --efficiency.weight high", "--efficiency.weight: must be float, got 'high' (str)"),
        ("--efficiency.method kimi --efficiency.weight -1", "--efficiency.weight: must be"),
        ("--efficiency.method kimi --efficiency.weight", "--efficiency.weight: needs a value"),
        ("--efficiency.method kimi --efficiency.method alp", "--efficiency.method: is given twice"),
        ("--efficiency.method kimi --efficiency.reward acuracy", "unknown reward 'acuracy'; did you mean 'accuracy'?"),
        ("--efficiency.reward accuracy --efficiency.weight 1", "--efficiency.weight: would be ignored"),
        ("--efficiency.reward repetition", "--efficiency.reward: repetition alone"),
        ("--efficiency.reward token_budget", "b_min and b_max"),
        ("--efficiency.reward accuracy --reward.remote_url x.py", "--reward.remote_url: there is --efficiency.reward"),
        ("--efficiency.reward accuracy --train.agent_func x.py", "--train.agent_func_path: there is --efficiency.reward"),
        ("--efficiency.reward accuracy --reward.model_name_or_path rm",
         "--reward.model_name_or_path: there is --efficiency.reward"),
        ("--efficiency.method kimi --train.agent_func_path mine.py", "--train.agent_func_path: there is no file mine.py"),
        ("--efficiency.method kimi --reward.remote_url accuracy",
         "write --efficiency.reward accuracy"),
        ("--efficiency.method kimi --reward.remote_url one.py,two.py", "one.py,two.py"),
        ("--efficiency.method kimi --algo.advantage.estimator gae", "--algo.advantage.estimator: kimi"),
        ("--efficiency.method kimi --algo.advantage.estimator rloo", "write --efficiency.advantage rloo"),
        ("--efficiency.method kimi --algo.advantage.estimator reinforce_baseline", "write --efficiency.advantage batch"),
        ("--efficiency.method kimi --algo.advantage.estimator reinforce", "reinforce would be ignored"),
        ("--efficiency.method t_spmo --actor.loss_agg_mode seq-mean-token-mean", "t_spmo is scaled for token-mean"),
        ("--efficiency.method sample_routing --actor.loss_agg_mode seq-mean-token-mean", "sample_routing needs token-mean"),
        ("--efficiency.method self_distillation --efficiency.target_dtype float16", "--efficiency.target_dtype: "),
        ("--efficiency.method self_distillation --efficiency.include_environment_feedback true",
         "--efficiency.include_environment_feedback: "),
        ("--efficiency.method self_distillation --algo.kl.init_coef 0.1 --algo.kl.use_loss",
         "--algo.kl.use_loss: self_distillation needs False"),
        ("--efficiency.method t_spmo --actor.policy_loss_type gspo", "--actor.policy_loss_type: t_spmo works token by token"),
        ("--efficiency.method s_grpo --actor.policy_loss_type gspo", "--actor.policy_loss_type: s_grpo works token by token"),
        ("--efficiency.method sample_routing --actor.policy_loss_type gspo", "--actor.policy_loss_type: sample_routing"),
        ("--efficiency.method self_distillation --efficiency.router my.routers.mine", "--efficiency.router: 'my.routers.mine'"),
        ("--efficiency.method kimi --efficiency.b_min 5", "('b_min' is a setting of token_budget"),
        ("--efficiency.method overlong --efficiency.buffer 41", "buffer: must be at most max_response_length=40, got 41"),
        ("--efficiency.method t_spmo --efficiency.replay 4", "--efficiency.replay: only verl's trainer restarts rollouts"),
        ("--efficiency.method kimi --algo.kl.init_coef 0.1", "add --algo.kl.use_loss, or write --algo.kl.init_coef 0"),
        ("--efficiency.method kimi --algo.advantage.est rloo", "rloo would be ignored"),  # argparse takes a beginning too
        ("--efficiency.method kimi --algo.advantage.no_std_norm", "write --efficiency.advantage dr_grpo"),
        ("--efficiency.method kimi --algo.advantage.gamma 0.9", "--algo.advantage.gamma: would be ignored"),
        ("--efficiency.method kimi --algo.advantage.lambd 0.9", "--algo.advantage.lambd: would be ignored"),
        ("--efficiency.method kimi --reward.clip_range 0 1", "--reward.clip_range: would be ignored"),
        ("--efficiency.method kimi --reward.overlong_buffer_len 5", "--reward.overlong_buffer_len: kimi reads correctness"),
        ("--efficiency.method kimi --reward.stop_properly_penalty_coef 0.5", "the term stop_properly"),
        ("--efficiency.method token_budget --efficiency.difficulty data --efficiency.difficulty_column extra_info.dificulty",
         "did you mean 'extra_info.difficulty'?"),
        ("--efficiency.method token_budget --efficiency.difficulty data --efficiency.difficulty_column extra_info.depth",
         "extra_info.depth must be a number in [0, 1] in every row"),
        ("--efficiency.method variance_routing --efficiency.distil true --efficiency.reference_column "
         "extra_info.dificulty", "did you mean 'extra_info.difficulty'?"),
    ],
)  # fmt: skip
def test_what_would_go_wrong_is_said_before_anything_starts(flags, message, stock):
    with pytest.raises(SettingsError) as error:
        parse([*stock, *flags.split()])
    assert message in str(error.value)


def test_every_check_of_a_run_is_reported_at_once(stock):
    with pytest.raises(SettingsError) as error:
        parse([*stock, "--efficiency.method", "kimi", "--algo.kl.init_coef", "0.1", "--reward.normalize_enable"])
    assert len(str(error.value).splitlines()) == 3


def test_a_run_without_any_reward_is_refused(stock):
    with pytest.raises(SettingsError, match=r"--efficiency.reward: is missing, and so is any other reward"):
        parse(["--efficiency.method", "kimi", *stock, "--reward.model_name_or_path", ""])


def test_a_list_of_reward_servers_is_fine(stock):
    servers = "http://one:5000/get_reward,http://two:5000/get_reward"
    parsed = parse(["--efficiency.method", "kimi", *stock, "--reward.remote_url", servers])
    assert parsed.reward.remote_url == servers.split(",")


def with_data(stock: list[str], rows: list[dict], folder: Path) -> list[str]:
    file = folder / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        "--efficiency.method",
        "kimi",
        "--efficiency.reward",
        "accuracy",
        *stock,
        "--data.prompt_dataset",
        str(file),
    ]


def test_a_label_that_is_no_answer_is_refused_with_its_line(stock, tmp_path):
    good = [{"input": "1", "label": "3"}, {"input": "2", "label": 72}]
    parse(with_data(stock, good, tmp_path))
    with pytest.raises(SettingsError, match=r"--data.label_key: .*train.jsonl line 3: .* is \{'a': 1\} \(dict\)"):
        parse(with_data(stock, [*good, {"input": "3", "label": {"a": 1}}], tmp_path))


def test_a_reward_of_one_problem_on_packs_is_refused(stock, tmp_path):
    rows = [{"input": "?", "label": label(answer, n=n)} for answer, n in (("3", 1), ('["3", "4"]', 2))]
    with pytest.raises(SettingsError, match=r"--efficiency.reward: accuracy .*train.jsonl.*batched_accuracy"):
        parse(with_data(stock, rows, tmp_path))
    parse(with_data(stock, rows[:1], tmp_path))
    flags = with_data(stock, rows, tmp_path)
    flags[flags.index("accuracy")] = "batched_accuracy"
    parse(flags)


SOLVED = "She sold 24 clips in May.\nShe sold 48 + 24 = 72 clips altogether.\n#### 72"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (72, None),
        (0.5, None),
        (["72"], None),
        ('["72"]', None),
        (label("72"), None),
        (label(["72"]), None),
        (SOLVED, "is a worked solution"),
        (label(SOLVED), "is a worked solution"),
        (label(r"The legs are 3 and 4, so that the answer is $\boxed{5}$."), "--answer-in-box"),
        ("", "is an empty text"),
        (" ", "is an empty text"),
        ("nan", "print of a missing value"),
        (None, "'label' is empty (null)"),
        (True, "True (bool)"),
        (["3", "4"], "use batched_accuracy"),
        (label('["3", "4"]'), "use batched_accuracy"),
    ],
)
def test_labels_are_put_before_the_reward(value, message, stock, tmp_path):
    flags = with_data(stock, [{"input": "1", "label": value}] * 3, tmp_path)
    if message is None:
        parse(flags)
        return
    with pytest.raises(SettingsError) as error:
        parse(flags)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question": "1", "label": "3"}], "--data.input_key: unknown column 'input'"),
        ([{"input": "1", "answer": "3"}], "--data.label_key: unknown column 'label'"),
        ([{"input": [{"from": "human", "value": "1"}], "label": "3"}], "from and value"),
        ([{"input": 5, "label": "3"}], "is not a list of messages"),
        ([{"input": None, "label": "3"}], "--data.input_key: 'input' is empty (null)"),
    ],
)
def test_rows_of_another_form_are_refused(rows, message, stock, tmp_path):
    with pytest.raises(SettingsError) as error:
        parse(with_data(stock, rows, tmp_path))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.jsonl", None, "--data.prompt_dataset: there is no file"),
        ("a.jsonl", b'{"input": "caf\xe9"}\n', "line 1 is not UTF-8"),
        ("a.jsonl", b'{"input": ', "line 1 is not JSON"),
        ("a.parquet", b"PAR1", "cannot be read as parquet"),
        ("a.jsonl", b"", "is empty"),
    ],
)
def test_data_files_that_cannot_be_read_are_refused(name, content, message, stock, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    flags = [*stock, "--efficiency.method", "kimi", "--efficiency.reward", "accuracy"]
    with pytest.raises(SettingsError) as error:
        parse([*flags, "--data.prompt_dataset", str(tmp_path / name)])
    assert message in str(error.value)
    good = stock[stock.index("--data.prompt_dataset") + 1]
    with pytest.raises(SettingsError) as error:
        parse([*flags, "--data.prompt_dataset", f"{good}, {tmp_path / name}@train"])
    assert message in str(error.value)
    with pytest.raises(SettingsError) as error:
        parse([*flags, "--eval.dataset", str(tmp_path / name)])
    assert str(error.value).replace("--eval.dataset", "--data.prompt_dataset").count(message) == 1


def test_a_reward_file_without_the_function_is_refused(stock, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("raise SystemExit\ndef reward_fnc(queries, prompts, labels): ...\n")
    for flag, name in (("--reward.remote_url", "reward_func"), ("--train.agent_func_path", "AgentExecutor")):
        with pytest.raises(SettingsError, match=rf"{flag}: unknown name '{name}'"):
            parse(["--efficiency.method", "kimi", *stock, flag, str(file)])


def test_our_reward_needs_the_labels(stock):
    place = stock.index("--data.label_key")
    with pytest.raises(SettingsError, match=r"--data.label_key: accuracy reads the answer from the labels"):
        parse(["--efficiency.reward", "accuracy", *stock[:place], *stock[place + 2 :]])


def test_a_missing_limit_is_refused(stock):
    place = stock.index("--rollout.max_new_tokens")
    without = stock[:place] + stock[place + 2 :]
    with pytest.raises(SettingsError, match=r"--rollout.max_new_tokens: dast"):
        parse(["--efficiency.method", "dast", *without])


def test_kl_as_a_loss_is_fine(stock):
    assert parse(
        [*stock, "--efficiency.method", "kimi", "--algo.kl.init_coef", "0.1", "--algo.kl.use_loss"]
    ).algo.kl.use_loss


def test_untested_modes_are_named(stock, caplog):
    with caplog.at_level(logging.WARNING):
        parse([*stock, "--efficiency.method", "token_budget", "--train.colocate_actor_ref", "--ckpt.disable_ds"])
    assert "--train.colocate_actor_ref: " in caplog.text
    assert "--ckpt.disable_ds: token_budget" in caplog.text


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--efficiency.method token_budget --efficiency.b_min 40 --efficiency.b_max 50", "--efficiency.b_min: "),
        ("--efficiency.method token_budget --efficiency.b_min 39 --efficiency.b_max 50", None),
        ("--efficiency.method laser", "--efficiency.target_length: "),
        ("--efficiency.method laser --efficiency.target_length 39", None),
        ("--efficiency.method cosine --efficiency.max_response_length 41", "--efficiency.max_response_length: "),
        ("--efficiency.method cosine", None),
        ("--efficiency.method gfpo --efficiency.keep 4", "--efficiency.keep: "),
        ("--efficiency.method gfpo --efficiency.keep 3", None),
    ],
)
def test_what_no_rollout_of_40_tokens_in_groups_of_4_reaches_is_named(flags, named, stock, caplog):
    with caplog.at_level(logging.WARNING):
        parse([*stock, *flags.split()])
    lines = [line for line in caplog.messages if " = 40" in line or " = 4," in line]
    assert len(lines) == (named is not None)
    assert all(line.startswith(named) and "--rollout." in line for line in lines)


@pytest.mark.parametrize("method", ["kimi", "token_budget", "gfpo"])
def test_methods_that_weigh_whole_rollouts_run_with_gspo(method, stock):
    flags = ["--efficiency.method", method, "--actor.policy_loss_type", "gspo"]
    assert parse([*stock, *flags]).actor.policy_loss_type == "gspo"


@pytest.mark.parametrize(
    ("flags", "warned"),
    [("token_budget", True), ("variance_routing", True), ("drpo", True), ("s_grpo", False), ("concise_teacher", True),
     ("gfpo", False),
     ("token_budget --algo.dynamic_filtering_range 0 1.01", False)],
)  # fmt: skip
def test_filtering_of_what_a_method_learns_from_is_said(flags, warned, stock, caplog):
    filtering = [
        "--efficiency.reward",
        "accuracy",
        "--algo.dynamic_filtering_enable",
        "--efficiency.method",
        *flags.split(),
    ]
    with caplog.at_level(logging.WARNING):
        parse([*stock, *filtering])
    assert ("write --algo.dynamic_filtering_range 0 1.01" in caplog.text) == warned


@pytest.mark.parametrize(("more", "said"), [([], False), (["--efficiency.unsolved", "as_published"], True)])
def test_what_a_method_has_to_say_of_its_settings_is_said(more, said, stock, caplog):
    with caplog.at_level(logging.WARNING):
        parse([*stock, "--efficiency.reward", "accuracy", "--efficiency.method", "alp", *more])
    assert ("unsolved=leave" in caplog.text) == said


def test_other_versions_are_refused_and_the_override_is_named(monkeypatch, caplog):
    monkeypatch.setitem(start_up.TESTED, "ray", ("2.54.0",))
    with pytest.raises(SettingsError, match=r"ray 2.55.0 \(tested: 2.54.0\).*VERL_EFFICIENCY_UNTESTED_VERSIONS=1"):
        start_up.check_versions()
    monkeypatch.setenv("VERL_EFFICIENCY_UNTESTED_VERSIONS", "1")
    start_up.check_versions()
    assert "ray 2.55.0" in caplog.text


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(start_up.TESTED, "no-such-package", ("1",))
    with pytest.raises(SettingsError, match="no-such-package is not installed"):
        start_up.check_versions()


def test_no_setting_is_hidden_by_our_own_flags():
    from verl_efficiency.methods.catalog import ESTIMATORS

    for method in ESTIMATORS.values():
        assert not {"method", "reward"} & set(method.settings_class().__dataclass_fields__), method.name


def test_values_are_read_as_verl_reads_them():
    flags = "--efficiency.method token_budget --efficiency.b_min null --efficiency.penalty 3e-1 --efficiency.difficulty group"
    assert take_options(flags.split())[0].settings == {"b_min": None, "penalty": 0.3, "difficulty": "group"}


def test_help_shows_ours():
    text = help_text(["--help"])
    assert "--efficiency.method" in text
    assert "variance_routing" in text
    assert "lcpo_exact, lcpo_max, length_levels" in text
    assert "repetition" not in text  # it has no file
    settings = help_text(["--efficiency.method", "token_budget", "-h"]).splitlines()
    written = [line.split() for line in settings if line.startswith("    --efficiency.")]
    assert ["--efficiency.penalty", "0.3"] in written
    assert ["--efficiency.b_min", "null"] in written
    take_options(
        ["--efficiency.method", "token_budget", *[word for words in written for word in words]]
    )  # can be copied


def test_command_line_prints_one_line_and_exits_with_2():
    for command in (["-m", "verl_efficiency.openrlhf.train"], ["-m", "verl_efficiency.cli", "train-openrlhf"]):
        run = subprocess.run(
            [sys.executable, *command, "--efficiency.method", "kimmi"], capture_output=True, text=True, timeout=60
        )
        assert run.returncode == 2
        assert run.stderr.startswith("error: --efficiency.method: unknown method 'kimmi'; did you mean 'kimi'?")
        assert run.stderr.count("\n") == 1


def test_launch_refuses_before_openrlhf_is_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "openrlhf.utils.config", None)
    with pytest.raises(SettingsError):
        launch(["--efficiency.method", "kimmi"])
