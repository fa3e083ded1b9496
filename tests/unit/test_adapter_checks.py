"""Start-up rules that every framework shares: whom they concern, and the names that the user of the framework writes."""

import pytest

from verl_efficiency.adapter import checks
from verl_efficiency.methods.catalog import ESTIMATORS, REWARDS
from verl_efficiency.settings import SettingsError

DISTIL = {"distil": True}


def of(name, given=None):
    """A method and its settings."""
    return ESTIMATORS[name], ESTIMATORS[name].build_settings(given or {}, "here")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("token_bugdet", ["unknown kind 'token_bugdet'", "did you mean 'token_budget'?"]),
        ("acuracy", ["accuracy is a reward", "write the reward accuracy"]),
        ("dapo", None),
        ("my_own", None),
    ],
)
def test_names_that_are_no_method(name, words):
    said = checks.wrong_method(name, "kind", ["token_budget", "grpo"], lambda reward: f"the reward {reward}")
    assert (said is None) == (words is None)
    assert all(word in said for word in words or [])


def test_a_setting_of_another_method_names_that_method():
    with pytest.raises(SettingsError, match=r"^here: .*'b_min' is a setting of token_budget"):
        checks.build_settings(ESTIMATORS["kimi"], {"b_min": 3}, "here")
    with pytest.raises(SettingsError, match="did you mean 'weight'") as error:
        checks.build_settings(ESTIMATORS["kimi"], {"wieght": 3}, "here")
    assert "is a setting of" not in str(error.value)
    assert "token_budget" in checks.methods_with(["b_min", "b_max"])
    assert "kimi" not in checks.methods_with(["b_min"])


def test_needs_name_the_key_the_value_and_the_fix():
    needs = [checks.Need("a.b", 3, (1, 2, 5), "why"), checks.Need("c", 2, (1, 2), "why not")]
    (line,) = checks.unmet("kimi", needs, lambda key, value: f"set {key} to {value}")
    for word in ("a.b: kimi needs 1 or 2, not 3", "set a.b to 1", "why"):
        assert word in line
    assert "why not" not in line


@pytest.mark.parametrize(
    ("name", "given", "mode", "refused"),
    [
        ("t_spmo", {}, "token-mean", False),
        ("t_spmo", {}, "per-rollout", True),
        ("t_spmo", {"normalise": "none"}, "per-rollout", False),
        ("sample_routing", {}, "per-rollout", True),
        ("variance_routing", {}, "per-rollout", False),
        ("variance_routing", DISTIL, "per-rollout", True),
        ("s_grpo", {}, "per-rollout", False),
        ("kimi", {}, "per-rollout", False),
    ],
)
def test_who_needs_a_mean_over_all_tokens(name, given, mode, refused):
    lines = list(checks.check_aggregation(*of(name, given), mode, "the.mode", "do this", "or that"))
    assert len(lines) == refused
    assert all(line.startswith(f"the.mode: {name} ") and mode in line and "do this" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "given", "refused"),
    [
        *((name, {}, True) for name in ("t_spmo", "s_grpo", "self_distillation", "concise_teacher")),
        *((name, {}, False) for name in ("kimi", "token_budget", "gfpo", "variance_routing")),
        ("variance_routing", DISTIL, True),
    ],
)
def test_who_needs_a_loss_of_single_tokens(name, given, refused):
    losses = {"gspo": "averages"}
    lines = list(checks.check_loss(*of(name, given), "gspo", "the.loss", losses, "do this"))
    assert len(lines) == refused
    assert all(line.startswith(f"the.loss: {name} ") and "gspo averages; do this" in line for line in lines)
    assert list(checks.check_loss(*of(name, given), "ppo", "the.loss", losses, "do this")) == []


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ([0, 1, 0.5], None),
        ([0.5, 2, 3], "2"),
        ([-0.1], "-0.1"),
        ([True], "True"),
        (["0.5"], "'0.5'"),
        ([float("nan")], "nan"),
    ],
)
def test_difficulties(values, wrong):
    lines = list(checks.check_shares(values, "extra_info.difficulty", "the.column", "file.jsonl"))
    assert len(lines) == (wrong is not None)
    assert all(line.startswith("the.column: extra_info.difficulty") and line.endswith(f"has {wrong}") for line in lines)


SUM = "generated+200*turns"  # at most 201 per token, where each token is a turn of its own


@pytest.mark.parametrize(
    ("name", "given", "limit", "named"),
    [
        ("token_budget", {"b_min": 40, "b_max": 50}, 40, "b_min"),
        ("token_budget", {"b_min": 39, "b_max": 50}, 40, None),
        ("token_budget", {}, 40, None),
        ("token_budget", {"b_min": 40, "b_max": 50}, None, None),
        ("kimi", {}, 10, None),
        ("laser", {}, 1024, "target_length"),  # its default is 4096
        ("laser", {}, 4096, "target_length"),
        ("laser", {}, 4097, None),
        ("laser", {"target_length": 512}, 1024, None),
        ("leash", {}, 1024, "target_length"),
        ("leash", {"target_length": 1023.5}, 1024, None),
        ("laser_d", {"min_target": 1024}, 1024, "min_target"),
        ("laser_de", {"min_target": 1000}, 1024, None),
        ("cosine", {"max_response_length": 8192}, 1024, "max_response_length"),
        ("overlong", {"max_response_length": 1025}, 1024, "max_response_length"),
        ("truncation", {"max_response_length": 1024}, 1024, None),
        ("arora", {"max_response_length": 512}, 1024, None),
        ("dast", {}, 1024, None),
        # What is paid for may be less or more than the tokens.
        ("laser", {"target_length": 1024, "cost": "thinking"}, 1024, "target_length"),
        ("laser", {"target_length": 600, "cost": "0.5*generated"}, 1024, "target_length"),
        ("laser", {"target_length": 500, "cost": "0.5*generated"}, 1024, None),
        ("laser", {"target_length": 2000, "cost": SUM}, 1024, None),
        ("laser", {"target_length": 1024 * 201, "cost": SUM}, 1024, "target_length"),
        ("laser", {"target_length": 9e9, "cost": "generated+context"}, 1024, None),
    ],
)
def test_targets_and_limits_that_no_response_reaches(name, given, limit, named):
    lines = list(checks.check_budget(of(name, given)[1], limit, "ours", "the.limit"))
    assert [line.partition(":")[0] for line in lines] == ([f"ours.{named}"] if named else [])
    assert all(f"the.limit = {limit}" in line for line in lines)


@pytest.mark.parametrize(("given", "limit", "said"), [(8192, 1024, True), (1024, 1024, False), (None, 1024, False)])
@pytest.mark.parametrize("name", ["cosine", "length_levels"])
def test_the_limit_of_a_reward(name, given, limit, said):
    settings = REWARDS[name].build_settings({} if given is None else {"max_tokens": given}, "here")
    lines = list(checks.check_budget(settings, limit, "ours", "the.limit"))
    assert len(lines) == said
    assert all(line.startswith("ours.max_tokens: ") and "at most 1024" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "given", "rollouts", "said"),
    [
        ("gfpo", {"keep": 8}, 4, True),
        ("gfpo", {"keep": 4}, 4, True),
        ("gfpo", {"keep": 3}, 4, False),
        ("grpo_roc", {"keep": 8}, 8, True),
        ("gfpo", {}, 4, False),
        ("gfpo", {"adaptive": True}, 4, False),
        ("gfpo", {"keep": 1}, 1, False),  # groups of one have a line of their own
        ("kimi", {}, 4, False),
    ],
)
def test_keeping_every_rollout_selects_nothing(name, given, rollouts, said):
    lines = list(checks.check_keep(of(name, given)[1], rollouts, "ours", "the.group"))
    assert len(lines) == said
    assert all(line.startswith("ours.keep: ") and f"the.group = {rollouts}" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "given", "limit", "refused"),
    [
        ("overlong", {"buffer": 4096}, 1024, True),
        ("overlong", {"buffer": 1024}, 1024, False),
        ("overlong", {"buffer": 4096}, None, False),
        (
            "overlong",
            {"buffer": 4096, "max_response_length": 8192},
            1024,
            False,
        ),  # check_budget has a line on that limit
        ("overlong", {}, 1024, False),
        ("kimi", {}, 1024, False),
    ],
)
def test_the_limit_of_the_run_fits_the_settings(name, given, limit, refused):
    method, settings = of(name, given)
    lines = list(checks.check_limit(method, given, settings, limit, "ours"))
    assert len(lines) == refused
    assert all(line.startswith("ours.buffer: must be at most max_response_length=1024, got 4096") for line in lines)


@pytest.mark.parametrize(
    ("name", "given", "filled"),
    [
        ("dast", {}, {"max_response_length": 64}),
        ("dast", None, {"max_response_length": 64}),
        ("dast", {"max_response_length": 32}, None),
        ("kimi", {}, None),
    ],
)
def test_the_limit_goes_to_who_asks_for_it(name, given, filled):
    assert checks.with_limit(given, of(name, given)[1], 64) == filled


@pytest.mark.parametrize("name", ESTIMATORS)
def test_who_learns_where_all_are_right(name):
    silent = ("gfpo", "grpo_roc", "s_grpo", "t_spmo", "sample_routing")
    needed = {"custom": {"shaper": "verl_efficiency.methods.shaping.kimi.kimi"}, "length_shaped": {"shaper": "kimi"}}
    assert checks.learns_where_all_are_right(*of(name, needed.get(name))) == (name not in silent)


def test_self_teachers_are_known_by_their_settings():
    assert checks.has_teacher(*of("sample_routing"))
    assert checks.has_teacher(*of("variance_routing", DISTIL))
    assert not checks.has_teacher(*of("variance_routing"))
    assert not checks.has_teacher(*of("t_spmo"))
    (line,) = checks.check_router(*of("sample_routing", {"router": "nowhere.mine"}), "ours")
    assert line.startswith("ours.router: 'nowhere.mine'")


def test_rewards_that_are_only_terms():
    assert "composition" in checks.only_a_term(REWARDS["repetition"])
    assert checks.only_a_term(REWARDS["accuracy"]) is None
