// Names of files: what the daemon takes for an upload, and what a name may be saved as. Pure.

const LONGEST = 128;

/** A name that PUT /upload/NAME takes, close to the file's own: [A-Za-z0-9._-], no leading dot, at most 128. */
export function uploadName(fileName: string, taken: ReadonlySet<string> = new Set()): string {
  const plain =
    fileName
      .normalize("NFKD")
      .replace(/[\u0300-\u036f]/g, "")
      .replace(/[^A-Za-z0-9._-]+/g, "-")
      .replace(/^[.-]+/, "")
      .slice(0, LONGEST) || "file";
  if (!taken.has(plain)) return plain;
  const dot = plain.lastIndexOf(".");
  const [stem, ending] = dot > 0 ? [plain.slice(0, dot), plain.slice(dot)] : [plain, ""];
  for (let number = 2; ; number += 1) {
    const suffix = `-${number}${ending.slice(0, 20)}`;
    const name = `${stem.slice(0, LONGEST - suffix.length)}${suffix}`;
    if (!taken.has(name)) return name;
  }
}

/** A name for a file that is saved from here. */
export function saveName(name: string, ending: string): string {
  const plain = name.replace(/[^\p{L}\p{N}._ -]+/gu, "-").replace(/^[. -]+|[. -]+$/g, "").slice(0, 80);
  return `${plain || "workflow"}${ending}`;
}
