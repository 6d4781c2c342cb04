"""Caffe's Adam, whose passes over the parameters our build joins, follows its paper's formula."""

import numpy as np
import pytest

from mcc_caffe.caffe_io.pycaffe import import_caffe

caffe = import_caffe()
caffe.set_mode_cpu()

RATE, BETA1, BETA2, DELTA = 0.01, 0.9, 0.999, 1e-8


@pytest.mark.parametrize("inputs", [4, 5000])  # 20,000 parameters are shared by the threads
def test_adam_is_that_of_its_paper(tmp_path, inputs):
    """Algorithm 1 of Kingma and Ba, its two corrections in the rate (the end of section 2)."""
    (tmp_path / "net.prototxt").write_text(f"""
        layer {{ name: "x" type: "Input" top: "x" input_param {{
            shape {{ dim: 1 dim: {inputs} }} }} }}
        layer {{ name: "t" type: "Input" top: "t" input_param {{ shape {{ dim: 1 dim: 4 }} }} }}
        layer {{ name: "y" type: "InnerProduct" bottom: "x" top: "y" inner_product_param {{
            num_output: 4 bias_term: false }} }}
        layer {{ name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }}""")
    (tmp_path / "solver.prototxt").write_text(
        f'train_net: "{tmp_path}/net.prototxt" type: "Adam" base_lr: {RATE} lr_policy: "fixed" '
        f"momentum: {BETA1} momentum2: {BETA2} delta: {DELTA} display: 0 "
        f'snapshot_prefix: "{tmp_path}/s"'
    )
    solver = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    rng = np.random.default_rng(0)
    weights, x, target = (rng.normal(size=shape) for shape in ((4, inputs), inputs, 4))
    solver.net.params["y"][0].data[...] = weights
    solver.net.blobs["x"].data[0] = x
    solver.net.blobs["t"].data[0] = target
    m, v = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, 6):
        gradient = np.outer(weights @ x - target, x)
        m = BETA1 * m + (1 - BETA1) * gradient
        v = BETA2 * v + (1 - BETA2) * gradient**2
        rate = RATE * np.sqrt(1 - BETA2**step) / (1 - BETA1**step)
        change = rate * m / (np.sqrt(v) + DELTA)
        weights = weights - change
        solver.step(1)
        np.testing.assert_allclose(solver.net.params["y"][0].data, weights, atol=2e-5)
        assert np.abs(change).max() > 1e-3
