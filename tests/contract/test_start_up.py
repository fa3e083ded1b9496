"""A wrong configuration stops ``main_ppo`` on the driver, with one clear line per mistake."""

import time

import pytest

pytest.importorskip("verl")

import pyarrow as pa
import pyarrow.parquet as pq
from verl.trainer import main_ppo
from verl.trainer.ppo.utils import need_critic, need_reference_policy

from tests.contract.conftest import LAUNCH
from verl_efficiency.settings import SettingsError

OURS = "verl_efficiency.verl.checkpoint.StateCallback"
BUDGET = "algorithm.adv_estimator=token_budget"
FIXED = ("+algorithm.efficiency.b_min=100", "+algorithm.efficiency.b_max=200")
REWARD = "reward.custom_reward_function.path=pkg://verl_efficiency.rewards"
KWARGS = "+reward.custom_reward_function.reward_kwargs"
needs_v1 = pytest.mark.skipif(not hasattr(main_ppo, "TaskRunnerV1"), reason="verl 0.8 has no V1 trainer")


@pytest.fixture
def launch(compose):
    """Repeat the call in ``main_ppo.main``, and return the configuration."""

    def validated(*overrides):
        config = compose(*overrides)
        main_ppo.validate_config(
            config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config)
        )
        return config

    return validated


@pytest.fixture
def refusal(launch):
    """The lines of the refusal, without the heading."""

    def lines(*overrides):
        with pytest.raises(SettingsError) as caught:
            launch(*overrides)
        heading, *problems = str(caught.value).splitlines()
        assert heading == "this run would not do what its configuration says:"
        return problems

    return lines


@pytest.fixture
def train_file(tmp_path):
    """A parquet file whose rows have these values in ``extra_info.difficulty`` (or another column)."""

    def written(values, name="difficulty"):
        rows = [
            {"data_source": "openai/gsm8k", "prompt": [{"role": "user", "content": "1+1"}], "extra_info": {name: v}}
            for v in values
        ]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
        return f"data.train_files={tmp_path / 'train.parquet'}"

    return written


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            (BUDGET, "+algorithm.efficiency.penaltty=0.3"),
            ["algorithm.efficiency:", "unknown setting 'penaltty'; did you mean 'penalty'?"],
        ),
        (
            (BUDGET, "+algorithm.efficiency.difficulty=grup"),
            ["algorithm.efficiency.difficulty:", "unknown value 'grup'; did you mean 'group'?"],
        ),
        (
            (BUDGET, "+algorithm.efficiency.b_min=200", "+algorithm.efficiency.b_max=100"),
            ["algorithm.efficiency.b_min:", "must not be above b_max", "b_min=200 and b_max=100"],
        ),
        (
            (BUDGET, "+algorithm.efficiency.penalty=strong"),
            ["algorithm.efficiency.penalty:", "must be float", "'strong'"],
        ),
        (
            ("algorithm.adv_estimator=token_bugdet",),
            ["algorithm.adv_estimator:", "unknown estimator 'token_bugdet'; did you mean 'token_budget'?"],
        ),
        (
            ("algorithm.adv_estimator=efficiency.token_bugdet",),
            ["algorithm.adv_estimator:", "did you mean 'efficiency.token_budget'?"],
        ),
        (
            ("algorithm.adv_estimator=batched_accuracy",),  # one of our methods, but a reward
            ["algorithm.adv_estimator:", "unknown estimator 'batched_accuracy'"],
        ),
        (
            ("algorithm.adv_estimator=grpo", "+algorithm.efficiency.penalty=0.3"),
            ["algorithm.efficiency:", "penalty would be ignored", "adv_estimator=grpo", "token_budget"],
        ),
        (
            ("algorithm.adv_estimator=variance_routing", "+algorithm.efficiency.penalty=0.3"),
            ["algorithm.efficiency:", "unknown setting 'penalty'"],
        ),
        (
            (BUDGET, "algorithm.use_kl_in_reward=True", "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=1"),
            ["algorithm.use_kl_in_reward:", "actor_rollout_ref.actor.use_kl_loss=True"],
        ),
        (
            (BUDGET, "algorithm.rollout_correction.rollout_rs=token_k1"),
            ["algorithm.rollout_correction.rollout_rs:", "leave it null"],
        ),
        pytest.param(
            (BUDGET, "trainer.use_v1=False", "+algorithm.efficiency.difficulty=running"),
            ["trainer.use_v1:", "trainer.use_v1=True", "difficulty=group does without"],
            marks=needs_v1,
        ),
        (
            (BUDGET, "custom_reward_function.path=/my/reward.py"),
            ["custom_reward_function.path:", "ignores the key", "reward.custom_reward_function.path"],
        ),
        (
            (BUDGET, "reward_model.reward_manager=dapo"),
            ["reward_model.reward_manager:", "ignores the key", "reward.reward_manager.name"],
        ),
        (
            (BUDGET, "reward.reward_manager.name=eficiency"),
            ["reward.reward_manager.name:", "unknown manager 'eficiency'; did you mean 'efficiency'?"],
        ),
        (
            (REWARD, "reward.custom_reward_function.name=batched_acuracy"),
            ["reward.custom_reward_function.name:", "did you mean 'batched_accuracy'?"],
        ),
        (
            (f"{REWARD}.batched_acuracy",),
            ["reward.custom_reward_function.path:", "did you mean 'batched_accuracy'?"],
        ),
        (
            (f"{REWARD}.accuracy", "reward.custom_reward_function.name=batched_accuracy"),
            ["reward.custom_reward_function.name:", "has accuracy and compute_score, not 'batched_accuracy'"],
        ),
        (
            (REWARD, "reward.custom_reward_function.name=batched_accuracy", f"{KWARGS}.format_wieght=0.2"),
            ["reward.custom_reward_function.reward_kwargs:", "did you mean 'format_weight'?"],
        ),
        (
            (f"{REWARD}.batched_accuracy", f"{KWARGS}.format_weight=-1"),
            ["reward.custom_reward_function.reward_kwargs.format_weight:", "a number of at least 0"],
        ),
        (
            ("+data.efficiency.problems=3",),
            ["data.efficiency:", "problems would be ignored", "data.custom_cls.name=PackedDataset"],
        ),
        pytest.param(
            (BUDGET, "+algorithm.effciency.penalty=0.5"),
            ["algorithm.effciency:", "did you mean 'efficiency'?"],
        ),
        (
            (BUDGET, "+efficiency.length_weight=0.5"),
            ["efficiency: nobody reads length_weight here", "write +algorithm.efficiency.length_weight=0.5"],
        ),
        (
            (BUDGET, "+algorithm.token_budget={penalty: 0.5}"),
            ["algorithm.token_budget:", "write +algorithm.efficiency.penalty=0.5"],
        ),
        (
            (f"{REWARD}.accuracy", "+reward.custom_reward_function.marker=answer"),
            ["reward.custom_reward_function:", f"write {KWARGS}.marker=answer"],
        ),
        pytest.param(
            (BUDGET, "+algorithm.efficiency=penalty"),
            ["algorithm.efficiency:", "penalty"],
        ),
    ],
)
def test_one_line_with_the_place_and_the_fix(refusal, overrides, words):
    (line,) = refusal(*overrides)
    for word in words:
        assert word in line
    assert line.startswith(words[0])


def test_every_mistake_is_named_at_once(refusal):
    lines = refusal(
        "algorithm.adv_estimator=token_bugdet",
        "custom_reward_function.path=/my/reward.py",
        "+data.efficiency.problems=3",
    )
    assert [line.split(":")[0] for line in lines] == [
        "algorithm.adv_estimator",
        "custom_reward_function.path",
        "data.efficiency",
    ]


DATA = (BUDGET, *FIXED, "+algorithm.efficiency.difficulty=data")


def test_a_missing_difficulty_column_is_named_with_the_nearest(refusal, train_file):
    file = train_file([0.5], name="dificulty")
    (line,) = refusal(*DATA, file)
    assert line.startswith("algorithm.efficiency.difficulty_column: unknown column 'extra_info.difficulty'")
    assert "did you mean 'extra_info.dificulty'?" in line
    assert file.split("=")[1] in line


def test_a_missing_prompt_column_is_named(refusal, train_file):
    running = (BUDGET, *FIXED, "+algorithm.efficiency.difficulty=running")
    (line,) = refusal(*running, "+algorithm.efficiency.prompt_column=extra_info.dificulty", train_file([0.5]))
    assert line.startswith("algorithm.efficiency.prompt_column: unknown column 'extra_info.dificulty'")
    assert "did you mean 'extra_info.difficulty'?" in line


not_a_number_in_range = "must be a number in [0, 1] in every row"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.2, 1.5], ["has 1.5", not_a_number_in_range]),
        ([-0.1, 0.5], ["has -0.1", not_a_number_in_range]),
        ([0, 5, 3], ["has 5", not_a_number_in_range]),
        (["easy", "hard"], ["has 'easy'", not_a_number_in_range]),
        ([0.2, None], ["1 rows", "have no extra_info.difficulty"]),
        pytest.param(
            [0.2, float("nan")],
            [not_a_number_in_range],
        ),
        pytest.param(
            [[0.2], [0.3]],
            [not_a_number_in_range],
        ),
    ],
)
def test_a_difficulty_out_of_range_is_named(refusal, train_file, values, words):
    (line,) = refusal(*DATA, train_file(values))
    assert line.startswith("algorithm.efficiency.difficulty_column: ")
    for word in words:
        assert word in line


@pytest.mark.parametrize("values", [[0.0, 1.0], [0, 1], [0.25]])
def test_a_good_difficulty_passes(launch, train_file, values):
    launch(*DATA, train_file(values))
    launch(*DATA, "+algorithm.efficiency.difficulty_column=extra_info.level", train_file(values, name="level"))


def test_every_training_file_is_looked_at(refusal, train_file, tmp_path):
    train_file([0.5])
    good = (tmp_path / "train.parquet").rename(tmp_path / "good.parquet")
    train_file([3.0])
    (line,) = refusal(*DATA, f"data.train_files=[{good},{tmp_path / 'train.parquet'}]")
    assert "train.parquet" in line


def test_a_file_that_cannot_be_looked_at_is_said(launch, caplog):
    launch(*DATA, "data.train_files=hdfs://far/away.parquet")
    (message,) = [record.getMessage() for record in caplog.records if record.name == "verl_efficiency"]
    assert "hdfs://far/away.parquet" in message
    assert "not checked at start-up" in message


@pytest.mark.parametrize(
    ("overrides", "callback"),
    [
        (("algorithm.adv_estimator=grpo",), None),
        (("algorithm.adv_estimator=variance_routing",), None),
        ((BUDGET, *FIXED, "+algorithm.efficiency.accuracy_guard=null"), None),
        ((BUDGET, *FIXED), OURS),
        ((BUDGET,), OURS),
        (("algorithm.adv_estimator=efficiency.token_budget",), OURS),
        ((BUDGET, "+algorithm.efficiency.b_min=100"), OURS),
        ((BUDGET, *FIXED, "+algorithm.efficiency.difficulty=running"), OURS),
        ((BUDGET, f"trainer.checkpoint_callback_class={OURS}"), OURS),
    ],
)
def test_a_good_configuration_passes_and_state_is_saved_where_there_is_any(launch, caplog, overrides, callback):
    config = launch(
        *overrides,
        "reward.reward_manager.name=efficiency",
        REWARD,
        "reward.custom_reward_function.name=accuracy",
        f"{KWARGS}.strip_thinking=True",
    )
    assert config.trainer.checkpoint_callback_class == callback
    assert not [record for record in caplog.records if record.name == "verl_efficiency"]


def test_a_callback_of_the_users_own_stays_with_a_warning(launch, caplog):
    config = launch(BUDGET, "trainer.checkpoint_callback_class=my.module.Callback")
    assert config.trainer.checkpoint_callback_class == "my.module.Callback"
    assert OURS in caplog.text
    assert "super()" in caplog.text


def test_the_v0_trainer_has_no_place_for_state_and_that_is_said(launch, caplog):
    config = launch(BUDGET, "trainer.use_v1=False")
    assert config.trainer.checkpoint_callback_class is None
    assert "trainer.use_v1=True" in caplog.text


@pytest.mark.parametrize(("more", "said"), [((), False), (("+algorithm.efficiency.unsolved=as_published",), True)])
def test_what_a_method_has_to_say_of_its_settings_is_said(launch, caplog, more, said):
    launch("algorithm.adv_estimator=alp", *more)
    assert ("unsolved=leave" in caplog.text) == said


def test_verls_own_check_runs_first(compose):
    config = compose(BUDGET, "+algorithm.efficiency.penaltty=1", "data.train_batch_size=7", "trainer.n_gpus_per_node=3")
    with pytest.raises(AssertionError, match="must be divisible"):
        main_ppo.validate_config(config=config, use_reference_policy=False, use_critic=False)


def test_the_check_takes_positional_arguments_too(compose):
    with pytest.raises(SettingsError, match="penaltty"):
        main_ppo.validate_config(compose(BUDGET, "+algorithm.efficiency.penaltty=1"), False, False)


def test_a_real_launch_ends_before_ray_and_before_the_model(fresh, tmp_path):
    arguments = ("-m", "verl.trainer.main_ppo", *LAUNCH, BUDGET, "+algorithm.efficiency.penaltty=0.3")
    started = time.monotonic()
    done = fresh(*arguments, cwd=tmp_path)
    seconds = time.monotonic() - started
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "algorithm.efficiency: unknown setting 'penaltty'; did you mean 'penalty'?" in done.stderr
    assert "ray init kwargs" not in output  # run_ppo prints it before ray.init
    assert "Started a local Ray instance" not in output
    assert done.stderr.count("Error: ") == 1  # and so nothing looked for the model, which does not exist
    assert seconds < 120, f"{seconds:.0f} s"  # most of the time is verl's import; a busy machine needs longer
    print(f"refused after {seconds:.1f} s")
