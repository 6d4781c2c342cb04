"""A solver of a tiny net, for snapshots."""

from mcc_caffe.caffe_io import snapshots
from mcc_caffe.caffe_io.pycaffe import import_caffe

# An inner product of 3 to 2 numbers, as small as a net can be.
NET = """
name: "tiny"
layer { name: "x" type: "DummyData" top: "x" dummy_data_param {
    shape { dim: 1 dim: 3 } data_filler { type: "constant" value: 1 } } }
layer { name: "y" type: "InnerProduct" bottom: "x" top: "y" inner_product_param {
    num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "y0" top: "loss" }
"""
LABEL = """
layer { name: "y0" type: "DummyData" top: "y0" dummy_data_param {
    shape { dim: 1 dim: 2 } data_filler { type: "constant" value: 2 } } }
"""
SOLVER = 'net: "{net}" type: "{type}" base_lr: 0.1 lr_policy: "fixed" snapshot_prefix: "{prefix}"'


def make_solver(folder, solver_type="SGD", text=LABEL + NET):
    """Return a solver of the tiny net, or of another, whose snapshots go to `folder`."""
    prefix = snapshots.prepare(folder)
    net = folder.parent / "tiny.prototxt"
    net.write_text(text)
    path = folder.parent / "solver.prototxt"
    path.write_text(SOLVER.format(net=net, type=solver_type, prefix=prefix))
    caffe = import_caffe()
    caffe.set_mode_cpu()
    return caffe.get_solver(str(path))
