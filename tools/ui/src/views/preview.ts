// What a result is, told by its own bytes: a raster image, text, or neither. Names and media types of others are not believed. Pure.

export type Preview =
  | { kind: "image"; type: string }
  | { kind: "text"; text: string }
  | { kind: "none" };

const SIGNATURES: readonly (readonly [type: string, bytes: readonly number[], at: number])[] = [
  ["image/png", [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a], 0],
  ["image/jpeg", [0xff, 0xd8, 0xff], 0],
  ["image/gif", [0x47, 0x49, 0x46, 0x38], 0],
  ["image/webp", [0x57, 0x45, 0x42, 0x50], 8],
  ["image/bmp", [0x42, 0x4d], 0],
];

/** Raster images that browsers draw without running anything. SVG is none of them: it is text. */
export function imageType(head: Uint8Array): string | null {
  for (const [type, signature, at] of SIGNATURES) {
    if (!signature.every((byte, index) => head[at + index] === byte)) continue;
    if (type === "image/webp" && !startsWith(head, "RIFF")) continue;
    if (type === "image/bmp" && !isBitmap(head)) continue;
    return type;
  }
  return null;
}

export function previewOf(bytes: Uint8Array): Preview {
  const type = imageType(bytes);
  if (type) return { kind: "image", type };
  const text = asText(bytes);
  return text === null ? { kind: "none" } : { kind: "text", text };
}

/** UTF-8 without control characters; the last character may be cut. `null`: it is no text. */
export function asText(bytes: Uint8Array): string | null {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: true });
  } catch {
    return null;
  }
  // eslint-disable-next-line no-control-regex -- these are what tells bytes from text
  return /[\u0000-\u0008\u000e-\u001a\u001c-\u001f]/.test(text) ? null : text;
}

function startsWith(bytes: Uint8Array, word: string): boolean {
  return [...word].every((letter, index) => bytes[index] === letter.charCodeAt(0));
}

/** "BM" begins many a text: a bitmap also has zeros where its reserved words are. */
function isBitmap(bytes: Uint8Array): boolean {
  return bytes.length > 26 && [6, 7, 8, 9].every((at) => bytes[at] === 0);
}
