/** Opens the network's model in onnxruntime-web. */

import { reasonOf } from "./errors.js";

const VENDOR = new URL("../vendor/onnxruntime-web/", import.meta.url);
const SITE = new URL("../", import.meta.url);
const MOST_THREADS = 4;
const FIRST_SIZE = 32; // pixels

// onnxruntime-web's builds: the module, and the WebAssembly (.js, .wasm.gz) that it loads.
const WASM = { module: "ort.wasm.min.js", binary: "ort-wasm-simd-threaded" };
const WEBGPU = { module: "ort.webgpu.min.js", binary: "ort-wasm-simd-threaded.asyncify" };

/**
 * Open the model that lies beside the page.
 *
 * @returns {Promise<{engine: string, model: object, run: Function}>} what computes, in words; the
 *   content of model.json; and a function of (input (3, m, m), m) that returns
 *   {mask (S, S), heatmaps (22, S, S)}, and is to be called again only once it has returned.
 */
export async function openSession() {
  const files = Promise.all([
    load(new URL("model.json", SITE), async (url) => (await fetchFile(url)).json()),
    load(new URL("model.onnx", SITE), async (url) => (await fetchFile(url)).arrayBuffer()),
  ]);
  files.catch(() => {}); // startSession() tells of it
  if (await hasGpu()) {
    try {
      return await startSession(files, WEBGPU, "webgpu");
    } catch (error) {
      console.warn(`WebGPU cannot run the network (${reasonOf(error)}): WebAssembly does`);
    }
  }
  return startSession(files, WASM, "wasm");
}

async function startSession(files, build, provider) {
  // All at once: loading is most of the time until the first answer.
  const [[model, onnx], runtime, binary] = await Promise.all([
    files,
    load(new URL(build.module, VENDOR), (url) => import(url)),
    load(new URL(`${build.binary}.wasm.gz`, VENDOR), fetchUnpacked),
  ]);
  // Only a page that is isolated from other sites gets threads.
  const threads = self.crossOriginIsolated
    ? Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS)
    : 1;
  runtime.env.wasm.wasmBinary = binary;
  runtime.env.wasm.wasmPaths = { mjs: new URL(`${build.binary}.js`, VENDOR) };
  runtime.env.wasm.numThreads = provider === "wasm" ? threads : 1;
  const session = await runtime.InferenceSession.create(new Uint8Array(onnx), {
    executionProviders: [provider],
  });
  const { input: inputName, mask: maskName, heatmaps: heatmapsName } = model.blobs;
  const run = async (input, size) => {
    const tensor = new runtime.Tensor("float32", input, [1, 3, size, size]);
    const outputs = await session.run({ [inputName]: tensor });
    const mask = outputs[maskName].data;
    return {
      mask: mask.slice(mask.length / 2), // the first half is the background's
      heatmaps: outputs[heatmapsName].data.slice(),
    };
  };
  // In the first run the browser sees what to optimise; a small input does for that.
  await run(new Float32Array(3 * FIRST_SIZE ** 2), FIRST_SIZE);
  const engine =
    provider === "webgpu" ? "WebGPU" : `WebAssembly, ${threads} thread${threads > 1 ? "s" : ""}`;
  return { engine, model, run };
}

/** Tell whether there is a GPU that WebGPU can use and that no software stands in for. */
async function hasGpu() {
  try {
    const adapter = await navigator.gpu?.requestAdapter();
    return Boolean(adapter) && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
  } catch {
    return false;
  }
}

/** Load a file of the site by a function of its address; an error names the file. */
async function load(url, read) {
  try {
    return await read(url);
  } catch (error) {
    const problem = `${url.pathname} cannot be loaded (${reasonOf(error)})`;
    throw new Error(`${problem}: check that the server runs and has it, then load the page again`);
  }
}

async function fetchFile(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`status ${response.status}`);
  return response;
}

/** Fetch a gzip file and return what it holds; some web servers unpack it on the way. */
async function fetchUnpacked(url) {
  const response = await fetchFile(url);
  const content = new Uint8Array(await response.arrayBuffer());
  const isPacked = content[0] === 0x1f && content[1] === 0x8b;
  if (!isPacked) return content.buffer;
  const unpacked = new Blob([content]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(unpacked).arrayBuffer();
}
