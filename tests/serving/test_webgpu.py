"""The page's way through WebGPU in a real Chromium, on the GPU that its SwiftShader imitates.

The page itself leaves software adapters alone, since WebAssembly is faster: the test hides that
this one is software. Where Chromium has no adapter the test is skipped.
"""

import base64
import shutil

import cv2
import numpy as np
import pytest

SIZE = 64  # pixels of the network's input: the imitation is slow
_OPTIONS = ["--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]

# Returns, for WebAssembly and for WebGPU, the engine in words, mask, heatmaps and keypoints, and
# the number of computations that the GPU got.
_COMPARE = """async ([text, size]) => {
    const { openSession } = await import('/shared/session.js');
    const { contentOf, networkInput, imageWindow, windowMap } =
        await import('/shared/letterbox.js');
    const { decode, STRIDE } = await import('/shared/heatmaps.js');
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const image = await createImageBitmap(new Blob([bytes], { type: 'image/png' }));
    const { width, height } = image;
    const map = windowMap(imageWindow(width, height), width, height, size);
    const input = networkInput(image, width, height, map, size);
    let computations = 0;
    const dispatch = GPUComputePassEncoder.prototype.dispatchWorkgroups;
    GPUComputePassEncoder.prototype.dispatchWorkgroups = function (...counts) {
        computations += 1;
        return dispatch.apply(this, counts);
    };
    const answers = [];
    for (const isHidden of [false, true]) {
        if (isHidden) {
            Object.defineProperty(GPUAdapterInfo.prototype, 'isFallbackAdapter', { value: false });
        }
        const { engine, run } = await openSession();
        computations = 0;
        const { mask, heatmaps } = await run(input.slice(), size);
        const content = contentOf(map, width, height, size);
        const keypoints = decode(heatmaps, size / STRIDE, content);
        answers.push({ engine, computations, keypoints, mask: [...mask], heatmaps: [...heatmaps] });
    }
    return answers;
}"""


@pytest.fixture
def gpu_page(browser, site_url):
    """A page without a network of its own, in a Chromium that has a software adapter."""
    program = shutil.which("chromium")
    with browser.browser_type.launch(executable_path=program, args=_OPTIONS) as chromium:
        page = chromium.new_page()
        page.set_default_timeout(240_000)
        page.goto(f"{site_url}live/icon.svg")
        if not page.evaluate("async () => Boolean(await navigator.gpu?.requestAdapter())"):
            pytest.skip("this Chromium has no WebGPU adapter, not even SwiftShader's")
        yield page


def test_webgpu_answers_as_webassembly_does(gpu_page, rendered_hand):
    content = base64.b64encode(cv2.imencode(".png", rendered_hand)[1]).decode()
    wasm, gpu = gpu_page.evaluate(_COMPARE, [content, SIZE])
    assert wasm["engine"].startswith("WebAssembly") and wasm["computations"] == 0
    assert gpu["engine"] == "WebGPU" and gpu["computations"] > 40  # one or more a layer
    for blob in ("mask", "heatmaps"):
        assert np.allclose(gpu[blob], wasm[blob], atol=1e-4), blob
    assert max(wasm["heatmaps"]) > 0.3  # there is something to compare
    assert np.allclose(gpu["keypoints"], wasm["keypoints"], atol=0.01)
