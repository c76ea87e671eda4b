"""Exported graphs cut in two."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tagger.checkpoints.graph import CUT_KEY, FEATURES, graph_of
from tagger.checkpoints.store import BUNDLED
from tagger.engine.cut import parts_of

MODELS = ("esc50", "esc50-crnn")


def graph(model: str) -> Path:
    return graph_of(BUNDLED / f"{model}.safetensors")


def ran(model: bytes, name: str, values: np.ndarray) -> list[np.ndarray]:
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {name: values})


@pytest.mark.parametrize("model", MODELS)
def test_the_lower_and_the_upper_part_give_what_the_whole_graph_gives(model):
    whole = graph(model).read_bytes()
    parts = parts_of(whole)
    assert parts is not None
    features = np.random.default_rng(0).standard_normal((2, 1, 128, 237)).astype(np.float32)
    (maps,) = ran(parts.lower, FEATURES, features)
    assert maps.shape[3] == -(-237 // parts.frames)
    found, expected = ran(parts.upper, parts.maps, maps), ran(whole, FEATURES, features)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_each_part_is_a_valid_graph_with_its_own_weights_alone(model):
    whole = graph(model).read_bytes()
    parts = parts_of(whole)
    lower, upper = onnx.load_from_string(parts.lower), onnx.load_from_string(parts.upper)
    for part in (lower, upper):
        onnx.checker.check_model(part, full_check=True)
        used = {name for node in part.graph.node for name in node.input}
        assert {weights.name for weights in part.graph.initializer} <= used
    assert [value.name for value in lower.graph.output] == [value.name for value in upper.graph.input] == [parts.maps]
    assert len(parts.lower) + len(parts.upper) < 1.05 * len(whole)
    assert upper.metadata_props == onnx.load_from_string(whole).metadata_props


def small(**metadata: str) -> bytes:
    """A graph of two nodes: the absolute value of the features is the maps, whose opposite is the output."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in (FEATURES, "maps", "logits")]
    nodes = [helper.make_node("Abs", [FEATURES], ["maps"]), helper.make_node("Neg", ["maps"], ["logits"])]
    made = helper.make_model(
        helper.make_graph(nodes, "small", values[:1], values[2:], value_info=values[1:2]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    helper.set_model_props(made, metadata)
    return made.SerializeToString()


def test_a_graph_that_does_not_say_where_is_not_cut():
    assert parts_of(small()) is None
    assert parts_of(small(other="maps 4 9")) is None


def test_models_whose_lower_parts_are_equal_are_known_by_their_digest():
    one, other = (parts_of(small(**{CUT_KEY: "maps 4 9", "tagger.weights": name})) for name in ("one", "other"))
    assert one.lower != other.lower
    assert one.digest == other.digest
    assert len({parts_of(graph(model).read_bytes()).digest for model in MODELS}) == 2


def test_a_graph_is_cut_where_it_says():
    parts = parts_of(small(**{CUT_KEY: "maps 4 9"}))
    assert (parts.maps, parts.frames, parts.reach) == ("maps", 4, 9)
    assert ran(parts.lower, FEATURES, np.array([-2.0], np.float32)) == [2.0]
    assert ran(parts.upper, "maps", np.array([2.0], np.float32)) == [-2.0]


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("elsewhere 4 9", "has no 'elsewhere'"),
        ("maps 4", "does not say where"),
        ("maps four 9", "does not say where"),
        ("maps 0 9", "does not say where"),
        ("maps 4 -9", "does not say where"),
        ("", "does not say where"),
    ],
)
def test_a_place_that_is_not_there_is_an_error(said, problem):
    with pytest.raises(ValueError, match=problem):
        parts_of(small(**{CUT_KEY: said}))


@given(st.data())
def test_a_damaged_graph_is_an_error_or_another_graph(data):
    model = bytearray(small(**{CUT_KEY: "maps 4 9"}))
    for _ in range(data.draw(st.integers(1, 4))):
        model[data.draw(st.integers(0, len(model) - 1))] = data.draw(st.integers(0, 255))
    try:
        parts_of(bytes(model[: data.draw(st.integers(0, len(model)))]))
    except ValueError:
        return
