#!/usr/bin/env bash
# Brings onnxruntime-web, which runs the network in the browser, from npm to static/vendor/, and Swagger UI to static/api/.
# Run it after a change of a version below, then the tests, and commit what it has written. It needs npm and .venv.
#
# The WebAssembly is kept as gzip, as the pages load it: a quarter of the size, from any web server. Modules end in .js, as
# not every web server knows that .mjs is JavaScript. npm's package has no licence files; those of the Python package of
# the same version belong to the same source.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

version=1.30.0
target=mcc_caffe/serving/static/vendor/onnxruntime-web
files=(
    ort.wasm.min.mjs ort-wasm-simd-threaded.mjs ort-wasm-simd-threaded.wasm                      # every browser
    ort.webgpu.min.mjs ort-wasm-simd-threaded.asyncify.mjs ort-wasm-simd-threaded.asyncify.wasm  # where WebGPU is
)

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm pack --silent --pack-destination "$folder" "onnxruntime-web@$version" >/dev/null
tar -xzf "$folder/onnxruntime-web-$version.tgz" -C "$folder"
.venv/bin/python -m pip download -q --no-deps --only-binary :all: --dest "$folder" "onnxruntime==$version"
.venv/bin/python -m zipfile -e "$folder"/onnxruntime-*.whl "$folder/wheel"

rm -rf "$target"
mkdir -p "$target"
for file in "${files[@]}"; do
    case $file in
        *.wasm) gzip -9 --no-name <"$folder/package/dist/$file" >"$target/$file.gz" ;;
        # Without the line that names a source map, which is not brought along.
        *) sed '/^\/\/# sourceMappingURL=/d' "$folder/package/dist/$file" >"$target/${file%.mjs}.js" ;;
    esac
done
cp "$folder/wheel/onnxruntime/LICENSE" "$folder/wheel/onnxruntime/ThirdPartyNotices.txt" "$target"
echo "$version" >"$target/VERSION"

# Swagger UI, which shows what the server for programs answers. It is not part of the exported page.
version=5.35.0
target=mcc_caffe/serving/static/api
npm pack --silent --pack-destination "$folder" "swagger-ui-dist@$version" >/dev/null
mkdir "$folder/swagger"
tar -xzf "$folder/swagger-ui-dist-$version.tgz" -C "$folder/swagger"
for file in LICENSE NOTICE swagger-ui-bundle.js.LICENSE.txt; do
    cp "$folder/swagger/package/$file" "$target"
done
for file in swagger-ui-bundle.js swagger-ui.css; do
    sed -E '/^\/\/# sourceMappingURL=/d; s|/\*# sourceMappingURL=[^*]*\*/||' "$folder/swagger/package/$file" >"$target/$file"
done
echo "$version" >"$target/VERSION"
