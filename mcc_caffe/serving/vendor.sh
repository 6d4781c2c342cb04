#!/usr/bin/env bash
# Brings onnxruntime-web, which runs the network in the browser, from npm to static/vendor/, and
# Swagger UI, which shows what the server for programs answers, to static/api/.
#
# SHA256SUMS holds the sums of what is downloaded, which must agree, and of the files that are
# written, which the script renews. CONTRIBUTING.md says how to bring a new version.
#
# The WebAssembly is kept as gzip, as the pages load it: a quarter of the size, from any web server.
# Modules end in .js, as not every web server knows that .mjs is JavaScript. npm's package has no
# licence files; those of the Python package of the same version belong to the same source.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
export LC_ALL=C  # the order of SHA256SUMS

onnxruntime_version=1.30.0
onnxruntime_files=(
    # every browser
    ort.wasm.min.mjs ort-wasm-simd-threaded.mjs ort-wasm-simd-threaded.wasm
    # where WebGPU is
    ort.webgpu.min.mjs ort-wasm-simd-threaded.asyncify.mjs ort-wasm-simd-threaded.asyncify.wasm
)
swagger_version=5.35.0

python=$PWD/../../.venv/bin/python
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Say what is wrong, and end.
fail() {
    echo "error: $1" >&2
    exit 2
}

# npm_package NAME VERSION: download a package of npm, compare its sum, and unpack it.
npm_package() {
    local file="$1-$2.tgz" sum expected
    npm pack --silent --pack-destination "$folder" "$1@$2" >/dev/null ||
        fail "npm cannot bring $1 $2: try \`npm pack $1@$2\`"
    sum=$(sha256sum <"$folder/$file" | cut -d" " -f1)
    expected=$(awk -v file="$file" '$2 == file { print $1 }' SHA256SUMS)
    [ "$sum" = "$expected" ] ||
        fail "$file has the SHA-256 sum $sum, not ${expected:-one in SHA256SUMS}: if this is the \
file that you want, put the line '$sum  $file' there"
    mkdir "$folder/$1"
    tar -xzf "$folder/$file" -C "$folder/$1" --strip-components=1
}

# JavaScript and CSS without the line that names a source map, which is not brought along.
without_source_map() {
    sed -E '/^\/\/# sourceMappingURL=/d; s|/\*# sourceMappingURL=[^*]*\*/||' "$1"
}

command -v npm >/dev/null || fail "npm was not found: \`apt install npm\`"
npm_package onnxruntime-web "$onnxruntime_version"
npm_package swagger-ui-dist "$swagger_version"
"$python" -m pip download -q --no-deps --only-binary :all: --dest "$folder" \
    "onnxruntime==$onnxruntime_version"
"$python" -m zipfile -e "$folder"/onnxruntime-*.whl "$folder/wheel"

target=static/vendor/onnxruntime-web
rm -rf "$target"
mkdir -p "$target"
for name in "${onnxruntime_files[@]}"; do
    file=$folder/onnxruntime-web/dist/$name
    case $name in
        *.wasm) gzip -9 --no-name <"$file" >"$target/$name.gz" ;;
        *) without_source_map "$file" >"$target/${name%.mjs}.js" ;;
    esac
done
cp "$folder"/wheel/onnxruntime/{LICENSE,ThirdPartyNotices.txt} "$target"
echo "$onnxruntime_version" >"$target/VERSION"

target=static/api
cp "$folder"/swagger-ui-dist/{LICENSE,NOTICE,swagger-ui-bundle.js.LICENSE.txt} "$target"
for name in swagger-ui-bundle.js swagger-ui.css; do
    without_source_map "$folder/swagger-ui-dist/$name" >"$target/$name"
done
echo "$swagger_version" >"$target/VERSION"

{
    (cd "$folder" && sha256sum ./*.tgz | sed 's|\./||')
    sha256sum static/vendor/*/* static/api/{LICENSE,NOTICE,VERSION,swagger-ui*}
} >"$folder/SHA256SUMS"
cp "$folder/SHA256SUMS" SHA256SUMS
