"""The check that every node of a Ray cluster has the plugin; with two real raylets in tests/e2e/test_two_nodes.py."""

import sys
import types

import pytest

from verl_efficiency.settings import SettingsError
from verl_efficiency.verl import nodes
from verl_efficiency.verl.nodes import Installed, compare

HERE = Installed(found=True, loads=True, version="0.1.0")


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (Installed(False, False, None), ["node b", "not installed", "verl-efficiency==0.1.0"]),
        (Installed(False, True, "0.1.0"), ["node b", "not installed"]),  # its entry point is left, its code is not
        (Installed(True, False, None), ["node b", "VERL_USE_EXTERNAL_MODULES=verl_efficiency.verl.plugin"]),
        (Installed(True, True, "0.0.9"), ["node b", "0.0.9", "0.1.0"]),
        ("RuntimeEnvSetupError: no such wheel", ["node b", "no such wheel"]),
    ],
)
def test_a_node_that_differs_is_named_with_the_fix(there, words):
    (line,) = compare(HERE, {"node a": HERE, "node b": there})
    assert [word for word in words if word not in line] == []


@pytest.mark.parametrize("there", [HERE, Installed(True, True, None)])
def test_a_node_that_loads_the_plugin_is_well(there):
    assert compare(HERE, {"node b": there}) == []


def test_this_environment_loads_the_plugin(monkeypatch):
    monkeypatch.setenv("VERL_USE_EXTERNAL_MODULES", "other, verl_efficiency.verl.plugin")
    assert Installed(*nodes._question()())[:2] == (True, True)


def test_plugins_kept_out_by_verls_own_variable_are_seen(monkeypatch):
    monkeypatch.delenv("VERL_USE_EXTERNAL_MODULES", raising=False)
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "none")
    assert not Installed(*nodes._question()()).loads


class FakeRay(types.ModuleType):
    """As much of Ray as the wrapping of ``ray.init`` touches."""

    def __init__(self, count: int) -> None:
        super().__init__("ray")
        self.calls: list[dict] = []
        self.count = count
        self.init = self._init

    def _init(self, *args, **kwargs):
        self.calls.append(kwargs)
        return "connected"

    def is_initialized(self):
        return False

    def nodes(self):
        node = {"Alive": True, "Resources": {"CPU": 1.0}, "NodeManagerAddress": "10.0.0.1"}
        head = {"Alive": True, "Resources": {"memory": 1.0}}  # a head that runs no worker
        return [*[node] * self.count, {"Alive": False}, head]

    def get_runtime_context(self):
        return types.SimpleNamespace(gcs_address="10.0.0.1:6379")


@pytest.mark.parametrize(
    ("count", "given", "refused"),
    [(1, {}, False), (1, {"address": "auto"}, True), (2, {}, True)],
)
def test_ray_init_is_wrapped_for_one_call_and_its_own_local_ray_is_not_asked(monkeypatch, count, given, refused):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray = FakeRay(count)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(nodes, "problems_of_nodes", lambda: ["node 10.0.0.2: lacks it"])
    original = ray.init
    nodes.check_when_connected()
    nodes.check_when_connected()  # a second launch in the same process
    if refused:
        with pytest.raises(SettingsError, match=r"10\.0\.0\.2"):
            ray.init(**given)
    else:
        assert ray.init(**given) == "connected"
    assert ray.calls == [given]
    assert ray.init == original


def test_a_node_is_called_as_its_owner_calls_it():
    assert nodes._name({"NodeName": "10.0.0.1", "NodeManagerAddress": "10.0.0.1"}) == "node 10.0.0.1"
    assert nodes._name({"NodeName": "b", "NodeManagerAddress": "10.0.0.1"}) == "node b (10.0.0.1)"
