"""What a deploy net costs, counted from its text alone."""

from mcc_caffe.caffe_io.onnx_model import count_multiply_adds, count_parameters


def test_the_cost_by_hand(tmp_path):
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text("""
        layer { name: "data" type: "Input" top: "data"
                input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
        layer { name: "a" type: "Convolution" bottom: "data" top: "a"
                convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
        layer { name: "pool" type: "Pooling" bottom: "a" top: "pool"
                pooling_param { kernel_size: 2 stride: 2 } }
        layer { name: "b" type: "Convolution" bottom: "pool" top: "b"
                convolution_param { num_output: 2 kernel_size: 1 } }""")
    assert count_multiply_adds(prototxt) * 8**2 == 3 * 4 * 9 * 64 + 4 * 2 * 16
    assert count_parameters(prototxt) == 3 * 4 * 9 + 4 + 4 * 2 + 2
