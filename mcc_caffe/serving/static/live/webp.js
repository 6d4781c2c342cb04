/** Turns WebP files by their EXIF orientation, as `mcc_caffe.infer` does; Chromium does not. */

const ORIENTATION_TAG = 0x0112;

// What makes each EXIF orientation upright: a, b, c, d of a canvas's transform.
const TURNS = {
  2: [-1, 0, 0, 1], 3: [-1, 0, 0, -1], 4: [1, 0, 0, -1],
  5: [0, 1, 1, 0], 6: [0, 1, -1, 0], 7: [0, -1, -1, 0], 8: [0, -1, 1, 0],
};

/** Do as createImageBitmap does with an image's file, but turn WebP, too. */
export async function uprightBitmap(file, options) {
  const start = new DataView(await file.slice(0, 12).arrayBuffer());
  if (!/^RIFF[^]{4}WEBP$/.test(textAt(start, 0, 12))) return createImageBitmap(file, options);
  const content = await file.arrayBuffer();
  const tag = findOrientation(new DataView(content));
  const turn = tag && TURNS[tag.view.getUint16(tag.at, tag.isLittle)];
  if (!turn) return createImageBitmap(file, options);
  tag.view.setUint16(tag.at, 1, tag.isLittle); // for browsers that do turn WebP
  return turned(await createImageBitmap(new Blob([content]), options), turn);
}

/** Return where a WebP file's orientation is, {view, at, isLittle}; null where it has none. */
function findOrientation(view) {
  try {
    for (let at = 12; at < view.byteLength; ) {
      const size = view.getUint32(at + 4, true);
      if (textAt(view, at, 4) === "EXIF") return findTag(new DataView(view.buffer, at + 8, size));
      at += 8 + size + (size % 2);
    }
  } catch {
    // Damaged: something lies beyond the end.
  }
  return null;
}

/** Return where the orientation is in an EXIF chunk, as findOrientation does. */
function findTag(view) {
  const start = textAt(view, 0, 4) === "Exif" ? 6 : 0;
  const isLittle = textAt(view, start, 2) === "II";
  const first = start + view.getUint32(start + 4, isLittle);
  const count = view.getUint16(first, isLittle);
  for (let at = first + 2; at < first + 2 + 12 * count; at += 12) {
    if (view.getUint16(at, isLittle) === ORIENTATION_TAG) return { view, at: at + 8, isLittle };
  }
  return null;
}

/** Return the bytes of a view as letters, fewer than `length` where it ends before. */
function textAt({ buffer, byteOffset, byteLength }, at, length) {
  const bytes = new Uint8Array(buffer, byteOffset + at, Math.min(length, byteLength - at));
  return String.fromCharCode(...bytes);
}

/** Return a bitmap drawn by a canvas's transform, as in TURNS. */
function turned(bitmap, [a, b, c, d]) {
  const { width, height } = bitmap;
  const canvas = a === 0 ? new OffscreenCanvas(height, width) : new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.setTransform(a, b, c, d, a + c < 0 ? canvas.width : 0, b + d < 0 ? canvas.height : 0);
  context.drawImage(bitmap, 0, 0);
  return canvas.transferToImageBitmap();
}
