"""If, Loop and Scan: bodies that read from around them, loops of known and unknown length, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import UnsupportedError
from tests.contract.tflite_ops.against import agree, codes, normal, text_model

# --- If --------------------------------------------------------------------------------------------------------------

_CHOICE = """(float[2,3] x, bool[1] c) => (float[2,3] y, float[2,3] z) {
    a = Neg(x)
    y, z = If(c) <then_branch = t () => (float[2,3] ty, float[2,3] tz) { ty = Add(a, w) tz = Identity(x) },
                  else_branch = e () => (float[2,3] ey, float[2,3] ez) { ey = Mul(x, x) ez = Add(ey, a) }>
}"""


@pytest.mark.parametrize("condition", [True, False])
def test_branches_read_what_is_around_them(condition: bool, tmp_path: Path) -> None:
    model = text_model(_CHOICE, w=normal(3, seed=1))
    agree(tmp_path, model, {"x": normal(2, 3), "c": np.array([condition])})
    assert "IF" in codes(model)


@pytest.mark.parametrize("condition", [True, False])
def test_a_choice_known_beforehand_is_no_choice(condition: bool, tmp_path: Path) -> None:
    model = text_model(_CHOICE.replace(", bool[1] c", ""), w=normal(3, seed=1), c=np.array([condition]))
    agree(tmp_path, model, {"x": normal(2, 3)})
    assert "IF" not in codes(model)


@pytest.mark.parametrize("condition", [True, False])
def test_branches_may_be_constants_and_choices_may_be_inside_choices(condition: bool, tmp_path: Path) -> None:
    model = text_model(
        """(float[3] x, bool[1] c, bool[1] d) => (float[3] y) {
            y = If(c) <
                then_branch = t () => (float[3] ty) { ty = Constant<value = float[3] {1, 2, 3}>() },
                else_branch = e () => (float[3] ey) {
                    ey = If(d) <then_branch = u () => (float[3] uy) { uy = Add(x, x) },
                                else_branch = v () => (float[3] vy) { vy = Neg(x) }> }>
        }"""
    )
    for other in (True, False):
        agree(tmp_path, model, {"x": normal(3), "c": np.array([condition]), "d": np.array([other])})


def test_what_a_branch_cannot_hold_is_told() -> None:
    model = text_model(
        """(float[2,3] x, bool[1] c) => (float[2,3] y) {
            y = If(c) <then_branch = t () => (float[2,3] ty) { ty = Neg(x) },
                       else_branch = e () => (float[2,3] ey) { ey = RandomNormalLike(x) }>
        }"""
    )
    with pytest.raises(UnsupportedError, match="cannot hold") as caught:
        codes(model)
    assert "RandomNormalLike" in str(caught.value.offenders)


# --- Loop ------------------------------------------------------------------------------------------------------------

_COUNTED = """(float[2,3] x, float[3] s) => (float[2,3] y, float[steps,2,3] all) {
    a = Mul(s, s)
    y, all = Loop(n, go, x) <body = b (int64 i, bool c, float[2,3] v) => (bool d, float[2,3] w, float[2,3] each) {
        d = Identity(c)
        f = Cast<to = 1>(i)
        p = MatMul(v, m)
        q = Add(p, a)
        r = Tanh(q)
        w = Add(r, f)
        each = Sub(w, v)
    }>
}"""


@pytest.mark.parametrize("steps", [0, 1, 3, 20, 130])
def test_loops_of_known_length_collect_what_passes_give(steps: int, tmp_path: Path) -> None:
    model = text_model(
        _COUNTED.replace("steps", str(steps)), m=normal(3, 3, seed=1), n=np.array(steps), go=np.array(True)
    )
    agree(tmp_path, model, {"x": normal(2, 3), "s": normal(3)}, 1e-4)
    assert ("WHILE" in codes(model)) == (steps > 10)


def test_what_follows_a_loop_knows_its_shape(tmp_path: Path) -> None:
    model = text_model(
        """(float[2,3] x) => (float[6] y) {
            v, all = Loop(n, go, x) <body = b (int64 i, bool c, float[2,3] a) => (bool d, float[2,3] w, float[2,3] e) {
                d = Identity(c) w = Sin(a) e = Identity(w) }>
            f = Reshape(v, flat)
            g = ReduceMean<keepdims = 0>(all, zero)
            h = Reshape(g, flat)
            y = Add(f, h)
        }""",
        18,
        n=np.array(70), go=np.array(True), flat=np.array([-1]), zero=np.array([0]),
    )  # fmt: skip
    agree(tmp_path, model, {"x": normal(2, 3)})


def test_states_may_change_places(tmp_path: Path) -> None:
    model = text_model(
        """(float[3] x, float[3] y) => (float[3] a, float[3] b, int64[1] k) {
            a, b, k = Loop(n, go, x, y, zero) <body = body (int64 i, bool c, float[3] p, float[3] q, int64[1] r)
                => (bool d, float[3] q2, float[3] p2, int64[1] s) {
                d = Identity(c) q2 = Identity(q) p2 = Identity(p) s = Add(r, one) }>
        }""",
        n=np.array(21), go=np.array(True), zero=np.array([0]), one=np.array([1]),
    )  # fmt: skip
    found = agree(tmp_path, model, {"x": normal(3), "y": normal(3, seed=1)})
    assert found[2].tolist() == [21]


def test_states_may_become_one_another_what_is_around_or_constants(tmp_path: Path) -> None:
    model = text_model(
        """(float[3] x, float[3] y, float z) => (float[3] a, float[3] b, float[3] e, float[3] f, float g) {
            s = Neg(x)
            a, b, e, f, g = Loop(n, go, x, y, x, y, z)
                <body = body (int64 i, bool c, float[3] p, float[3] q, float[3] r, float[3] t, float w)
                => (bool d, float[3] p2, float[3] q2, float[3] r2, float[3] t2, float w2) {
                d = Identity(c) v = Add(p, q) p2 = Identity(v) q2 = Identity(v) r2 = Identity(s)
                t2 = Constant<value = float[3] {1, 2, 3}>() w2 = Neg(w) }>
        }""".replace(", float z)", ")"),
        n=np.array(21), go=np.array(True), z=np.float32(3),
    )  # fmt: skip
    agree(tmp_path, model, {"x": normal(3), "y": normal(3, seed=1)})


def test_a_loop_may_end_when_its_body_says_so(tmp_path: Path) -> None:
    model = text_model(
        """(float[1] x, float[1] top) => (float[1] y, int64[1] k) {
            go = Less(x, top)
            g = Squeeze(go, zeroth)
            y, k = Loop("", g, x, zero) <body = b (int64 i, bool c, float[1] v, int64[1] r)
                => (bool d, float[1] w, int64[1] s) {
                w = Mul(v, two) l = Less(w, top) d = Squeeze(l, zeroth) s = Add(r, one) }>
        }""",
        two=np.float32([2]), zero=np.array([0]), one=np.array([1]), zeroth=np.array([0]),
    )  # fmt: skip
    for top in (0.5, 3.0, 1000.0):
        agree(tmp_path, model, {"x": np.float32([1]), "top": np.float32([top])})


def test_results_of_a_loop_that_ends_early_are_cut(tmp_path: Path) -> None:
    model = text_model(
        """(float[1] x, float[1] top) => (float[1] y, float[k,1] all) {
            y, all = Loop(n, go, x) <body = b (int64 i, bool c, float[1] v) => (bool d, float[1] w, float[1] e) {
                w = Mul(v, two) l = Less(w, top) d = Squeeze(l, zeroth) e = Identity(w) }>
        }""",
        two=np.float32([2]), n=np.array(30), go=np.array(True), zeroth=np.array([0]),
    )  # fmt: skip
    for top, count in ((3.0, 2), (100.0, 7), (1e30, 30)):
        found = agree(tmp_path, model, {"x": np.float32([1]), "top": np.float32([top])})
        assert found[1].shape == (count, 1)


def test_a_body_whose_shapes_follow_the_pass_is_written_out(tmp_path: Path) -> None:
    model = text_model(
        """(float[40,2] x) => (float[2] y) {
            y = Loop(n, go, start) <body = b (int64 i, bool c, float[2] v) => (bool d, float[2] w) {
                d = Identity(c)
                j = Add(i, one)
                i1 = Unsqueeze(i, zeroth)
                j1 = Unsqueeze(j, zeroth)
                j2 = Mul(j1, two)
                part = Slice(x, i1, j2, zeroth)
                s = ReduceSum<keepdims = 0>(part, zeroth)
                w = Add(v, s)
            }>
        }""",
        18,
        n=np.array(12), go=np.array(True), start=np.zeros(2, "float32"), one=np.array(1), two=np.array([2]),
        zeroth=np.array([0]),
    )  # fmt: skip
    agree(tmp_path, model, {"x": normal(40, 2)})


def test_choices_and_loops_stand_inside_loops(tmp_path: Path) -> None:
    model = text_model(
        """(float[3] x, float[3] s) => (float[3] y) {
            y = Loop(n, go, x) <body = b (int64 i, bool c, float[3] v) => (bool d, float[3] w) {
                d = Identity(c)
                odd = Mod(i, two)
                is_odd = Cast<to = 9>(odd)
                u = If(is_odd) <then_branch = t () => (float[3] ty) { ty = Add(v, s) },
                                else_branch = e () => (float[3] ey) { ey = Mul(v, half) }>
                w = Loop(m, go, u) <body = inner (int64 j, bool f, float[3] p) => (bool g, float[3] q) {
                    g = Identity(f) z = Mul(p, s) q = Sin(z) }>
            }>
        }""",
        n=np.array(15), m=np.array(30), go=np.array(True), two=np.array(2), half=np.float32(0.5),
    )  # fmt: skip
    agree(tmp_path, model, {"x": normal(3), "s": normal(3, seed=1)})


def test_results_of_a_loop_of_unknown_length_are_refused() -> None:
    model = text_model(
        """(float[1] x, int64 n) => (float[1] y, float[k,1] all) {
            y, all = Loop(n, "", x) <body = b (int64 i, bool c, float[1] v) => (bool d, float[1] w, float[1] e) {
                d = Identity(c) w = Add(v, v) e = Identity(w) }>
        }"""
    )
    with pytest.raises(UnsupportedError, match="cannot hold") as caught:
        codes(model)
    assert "length is only known when the model runs" in str(caught.value.offenders)


# --- Scan ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [3, 30])
def test_scan_takes_any_axis_and_either_direction(steps: int, tmp_path: Path) -> None:
    model = text_model(
        f"""(float[2] h, float[2,{steps}] x, float[{steps},2] z)
        => (float[2] last, float[2,{steps}] a, float[{steps},2] b) {{
            last, a, b = Scan<num_scan_inputs = 2, scan_input_axes = [1, 0], scan_input_directions = [1, 0],
                              scan_output_axes = [-1, 0], scan_output_directions = [0, 1],
                body = body (float[2] s, float[2] p, float[2] q) => (float[2] t, float[2] u, float[2] v) {{
                    r = Mul(s, w) o = Add(r, p) t = Tanh(o) u = Sub(t, q) v = Identity(t) }}>(h, x, z)
        }}""",
        w=np.float32([0.5, -0.3]),
    )
    agree(tmp_path, model, {"h": normal(2), "x": normal(2, steps), "z": normal(steps, 2, seed=1)})


def test_a_long_scan_copies_blocks_only(tmp_path: Path) -> None:
    model = text_model(
        """(float[2] h, float[167,2] x) => (float[2] last, float[167,2] a) {
            last, a = Scan<num_scan_inputs = 1, body = body (float[2] s, float[2] p) => (float[2] t, float[2] u) {
                r = Mul(s, w) t = Add(r, p) u = Identity(t) }>(h, x)
        }""",
        w=np.float32([0.5, -0.3]),
    )
    agree(tmp_path, model, {"h": normal(2), "x": normal(167, 2)})
    assert codes(model).count("WHILE") >= 2


# --- loops as TensorFlow's converter writes them ---------------------------------------------------------------------

_CARRYING = """(float[25,1,6] x) => (float[1,6] h, float[25,1,6] all) {
    t, h, w, all = Loop(limit, go, zero, start, weight)
        <body = b (int64 i, bool c, int32 time, float[1,6] v, float[6,6] m)
        => (bool d, int32 next, float[1,6] u, float[6,6] m, float[1,6] each) {
        next = Add(time, one) later = Cast<to = 1>(next) first = Less(later, end)
        number = Cast<to = 1>(i) second = Less(number, end) d = And(first, second)
        part = Gather(x, time) p = MatMul(v, m) s = Add(p, part) u = Tanh(s) each = Identity(u) }>
}"""


def test_weights_carried_along_are_constants_and_the_condition_is_run_beforehand(tmp_path: Path) -> None:
    model = text_model(
        _CARRYING, 17, limit=np.array(1000), go=np.array(True), zero=np.int32(0), one=np.int32(1),
        start=np.zeros((1, 6), "float32"), weight=normal(6, 6, scale=0.4), end=np.float32(25),
    )  # fmt: skip
    agree(tmp_path, model, {"x": normal(25, 1, 6, seed=1)})
    found = codes(model)
    assert found.count("FULLY_CONNECTED") == 1
    assert "BATCH_MATMUL" not in found
