"""Fine-tuning: what comes back is a plain model that survives rounding better, or that learnt to do with less."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from edgekit.compress._rounding_places import Step, followers_of, rounded_tensors
from edgekit.compress._torch_graph import exported
from edgekit.compress.fake_quant_torch import Rounding, put_rounding
from edgekit.compress.finetuning import finetune
from edgekit.errors import InputError, UnsupportedError
from edgekit.quantize.solver import quantize_groups, quantize_weight
from edgekit.recipe import Recipe, Rule
from edgekit.target import Target

torch = pytest.importorskip("torch")
nn = torch.nn

FOLLOWERS = followers_of(Target.named("generic-x86"))
W8A8 = Recipe.named("w8a8")


class Net(nn.Module):  # type: ignore[misc, name-defined]
    """Convolutions with normalizations, a sum of two branches, and a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.point = nn.Conv2d(8, 8, 1, bias=False)
        self.after = nn.BatchNorm2d(8)
        self.last = nn.Linear(8, 4)

    def forward(self, picture: Any, scale: Any = None) -> Any:
        x = torch.relu(self.norm(self.first(picture)))
        x = torch.relu(x + self.after(self.point(self.deep(x))))
        return self.last(x.mean((2, 3)))


@dataclass(frozen=True)
class Plan:
    kept: Mapping[str, Mapping[int, np.ndarray]]


def net() -> Any:
    """With weights that 8 bits hold badly: the channels of one convolution differ a hundredfold."""
    torch.manual_seed(0)
    module = Net().eval()
    with torch.no_grad():
        for norm in (module.norm, module.after):
            norm.running_mean.normal_(0, 0.2)
            norm.running_var.uniform_(0.5, 2)
            norm.weight.normal_(0, 1)
    return module


def batches(count: int = 6) -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(16, 1, 8, 8, generator=generator) for _ in range(count)]


def rounded(module: Any, recipe: Recipe) -> tuple[Any, Rounding]:
    """The module under the rounding of a recipe, its ranges those of the batches: quantization without tuning."""
    graph = exported(module, ((batches(1)[0],), {}))
    rounding = put_rounding(graph, recipe, FOLLOWERS)
    rounding.set(watching=True, rounding=False)
    for batch in batches():
        graph(batch)
    rounding.set(watching=False, rounding=True)
    return graph, rounding


def noise(graph: Any, source: Any) -> float:
    """Power of the error as a share of the variance, on inputs nothing was tuned on."""
    x = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        want = source(x)
        return float(((graph(x) - want) ** 2).mean() / want.var())


@pytest.mark.parametrize("name", ["w8a8", "w8a8-dynamic", "w4g32"])
def test_a_tuned_module_loses_less_by_rounding_than_it_did(name: str) -> None:
    source, recipe = net(), Recipe.named(name)
    before = {key: value.clone() for key, value in source.state_dict().items()}
    lines: list[str] = []
    tuned = finetune(source, batches(), recipe=recipe, steps=150, learning_rate=2e-3, say=lines.append)
    assert all(torch.equal(value, before[key]) for key, value in source.state_dict().items())
    assert type(tuned) is Net
    assert tuned.state_dict().keys() == before.keys()
    assert torch.equal(tuned.norm.running_mean, before["norm.running_mean"])
    assert noise(rounded(tuned, recipe)[0], source) < 0.7 * noise(rounded(source, recipe)[0], source)
    assert sum(line.startswith("under rounding: step") for line in lines) == 10


def test_weights_are_rounded_as_the_quantizer_rounds_them() -> None:
    source = net()
    seen: dict[str, Any] = {}
    for recipe in ("w8", "w4g32"):
        graph, _ = rounded(source, Recipe.named(recipe))
        for name, module in graph.named_children():
            if type(module).__name__ == "WeightRounding":
                user = next(node for node in graph.graph.nodes if node.target == name)
                weight = source.get_parameter(user.args[0].target)
                seen[f"{recipe} {user.args[0].target}"] = weight, module(weight).detach().numpy()
    for name, (weight, got) in seen.items():
        array = weight.detach().numpy()
        if name == "w4g32 last.weight":
            want = quantize_groups(array, 1, 32).dequantize()
        else:
            stored = quantize_weight(array, 0)
            want = stored.params.dequantize(stored.values)
        np.testing.assert_allclose(got, want, atol=1e-6, err_msg=name)
    assert len(seen) == 8


def test_rounding_stands_where_the_integer_kernels_are() -> None:
    """Before every product and both sides of the sum; not behind the last product."""
    _, rounding = rounded(net(), W8A8)
    assert rounding.num_weights == 4
    # picture, relu (read by a convolution and the sum), deep, after (summed), relu of the sum (averaged), the mean
    assert len(rounding.ranges) == 6


def test_rounding_a_weight_before_its_normalization_is_rounding_it_folded() -> None:
    source = net()
    graph, _ = rounded(source, Recipe.named("w8"))
    folded = torch.nn.utils.fuse_conv_bn_eval(source.point, source.after)
    stored = quantize_weight(folded.weight.detach().numpy(), 0)
    name = next(
        node for node in graph.graph.nodes if node.op == "call_module" and node.args[0].target == "point.weight"
    )
    gain = source.after.weight / torch.sqrt(source.after.running_var + source.after.eps)
    got = graph.get_submodule(name.target)(source.point.weight) * gain[:, None, None, None]
    np.testing.assert_allclose(got.detach().numpy(), stored.params.dequantize(stored.values), atol=1e-6)


def test_gradients_pass_through_rounding_but_not_where_it_clips() -> None:
    _, rounding = rounded(net(), W8A8)
    module = rounding.ranges[0]
    low, high = float(module.low), float(module.high)
    x = torch.tensor([low - 1, 0.01, high + 1], requires_grad=True)
    module(x).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 0.0]
    assert float(module(x)[2].detach()) < high + 0.1


def test_the_same_seed_gives_the_same_weights() -> None:
    first, again = (finetune(net(), batches(), recipe="w8a8", steps=5, seed=3).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_rules_keep_a_layer_in_float_and_must_match_one() -> None:
    source = net()
    kept = W8A8.with_rule(Rule("fp32", name="last"))
    _, rounding = rounded(source, kept)
    assert rounding.num_weights == 3
    with pytest.raises(UnsupportedError, match="match no layer") as raised:
        finetune(source, batches(), recipe=W8A8.with_rule(Rule("fp32", name="lost*")), steps=1)
    assert "first" in raised.value.hint


def test_a_chain_that_leads_to_no_product_stays_float() -> None:
    steps = [
        Step("conv", "Conv", ("x",), "a", "w8a8"),
        Step("pool", "MaxPool", ("a",), "b"),
        Step("fc", "Gemm", ("b",), "c", "w8a8"),
        Step("sum", "Add", ("c", "a"), "d"),
        Step("odd", "", ("a",), "e"),
        Step("lone", "Conv", ("e",), "f", "fp32"),
    ]
    assert rounded_tensors(steps, FOLLOWERS, W8A8) == ("x", "a")


# --- Fewer channels ---------------------------------------------------------------------------------------------------


def half() -> Plan:
    """Every second of the eight channels, which stand and fall together all through the net."""
    some = np.arange(0, 8, 2)
    kept = {"first.weight": {0: some}, "first.weight_bias": {0: some}, "deep.weight": {0: some}}
    return Plan({**kept, "point.weight": {0: some, 1: some}, "last.weight": {1: some}})


def test_a_smaller_module_answers_as_the_larger_one_with_its_other_channels_dead() -> None:
    source = net()
    small = finetune(source, batches(), channels=half(), steps=1, learning_rate=1e-12).eval()
    small.norm.load_state_dict({k: v[::2] if v.ndim else v for k, v in source.norm.state_dict().items()})
    small.after.load_state_dict({k: v[::2] if v.ndim else v for k, v in source.after.state_dict().items()})
    assert (small.first.out_channels, small.deep.groups, small.last.in_features) == (4, 4, 4)
    with torch.no_grad():
        source.last.weight[:, 1::2] = 0
        source.point.weight[:, 1::2] = 0
        x = batches(1)[0]
        torch.testing.assert_close(small(x), source(x), atol=1e-4, rtol=1e-4)


def test_fewer_channels_learn_what_all_of_them_answered() -> None:
    source = net()
    untuned = finetune(source, batches(), channels=half(), steps=1, learning_rate=1e-12)
    tuned = finetune(source, batches(), channels=half(), steps=200, learning_rate=5e-3)
    assert noise(tuned, source) < 0.5 * noise(untuned, source)
    assert sum(p.numel() for p in tuned.parameters()) < 0.6 * sum(p.numel() for p in source.parameters())


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ({"second.weight": {0: np.arange(2)}}, "second.weight"),
        ({"first.weight": {0: np.arange(4)}}, "does not run"),
    ],
)
def test_channels_that_do_not_fit_are_refused(kept: Any, said: str) -> None:
    with pytest.raises(UnsupportedError) as raised:
        finetune(net(), batches(), channels=Plan(kept), steps=1)
    assert said in str(raised.value) + " ".join(raised.value.offenders)


# --- What is asked for ------------------------------------------------------------------------------------------------


def test_a_loss_of_ones_own_takes_labels() -> None:
    pairs = [(x, (x.mean((1, 2, 3)) > 0).long()) for x in batches(16)]
    loss: Callable[[Any, Any], Any] = nn.functional.cross_entropy
    tuned = finetune(net(), pairs, loss=loss, distillation_weight=0.0, steps=200, learning_rate=1e-2).eval()
    with torch.no_grad():
        right = np.mean([float((tuned(x).argmax(1) == y).float().mean()) for x, y in pairs])
    assert right > 0.8


def test_zeros_of_a_pruned_module_stay() -> None:
    source = net()
    with torch.no_grad():
        source.point.weight[::2] = 0
    tuned = finetune(source, batches(), recipe="w8a8", keep_zeros=True, steps=5)
    assert bool((tuned.point.weight[::2] == 0).all())
    assert not torch.equal(tuned.point.weight, source.point.weight)


@pytest.mark.parametrize(
    ("data", "settings", "said"),
    [
        ([], {}, "no batch"),
        ([torch.zeros(4, 3, 8, 8)], {}, "cannot be called"),
        ([torch.zeros(4, 1, 8, 8)], {"loss": nn.functional.mse_loss}, "no pair"),
        ([torch.full((4, 1, 8, 8), float("nan"))], {}, "became nan"),
        ([torch.zeros(4, 1, 8, 8)], {"steps": 0}, "nothing to learn"),
        ([torch.zeros(4, 1, 8, 8)], {"teacher": lambda x: x}, "teacher's answers"),
    ],
)
def test_data_that_teach_nothing_are_refused(data: Any, settings: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        finetune(net(), data, **{"steps": 2, **settings})


def test_a_generator_that_is_spent_is_found_out() -> None:
    with pytest.raises(InputError, match="no batch"):
        finetune(net(), iter(batches(2)), steps=5)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="a dict"):
        finetune({}, batches())


# --- Keras ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_keras_model_with_a_model_in_it_is_tuned_too() -> None:
    keras = pytest.importorskip("keras")
    layers = keras.layers
    keras.utils.set_random_seed(0)
    inner_input = keras.Input((6, 6, 8))
    inner = layers.ReLU()(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(inner_input)))
    inner = keras.Model(inner_input, layers.Add()([layers.Conv2D(8, 1)(inner), inner_input]))
    given = keras.Input((8, 8, 1))
    pooled = layers.GlobalAveragePooling2D()(inner(layers.Conv2D(8, 3, activation="relu")(given)))
    model = keras.Model(given, layers.Dense(4)(pooled))
    for i, variable in enumerate(model.trainable_variables):
        variable.assign(np.random.default_rng(i).normal(0, 0.5, variable.shape))
    before = model.get_weights()
    data = [np.random.default_rng(i).normal(0, 1, (16, 8, 8, 1)).astype("float32") for i in range(4)]
    lines: list[str] = []
    tuned = finetune(model, data, recipe="w4g32", steps=60, learning_rate=2e-3, say=lines.append)
    losses = [float(line.split()[-1]) for line in lines if "step" in line]
    assert "rounding 4 weights" in lines[0]
    assert losses[-1] < 0.5 * losses[0]
    assert all(np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True))
    assert [one.shape for one in tuned.get_weights()] == [one.shape for one in before]
    assert "call" not in vars(tuned.layers[1])
    with pytest.raises(UnsupportedError, match="channels"):
        finetune(model, data, channels=half())
