// A list of words as a text that people edit, and back: nothing that a word holds is lost on the way.

const LIST = /^\s*\[\s*("|\]\s*$)/;

/** One word a line; as JSON where that would not say the same. */
export function shownWords(words: readonly string[]): string {
  const lines = words.join("\n");
  const isPlain = words.every((word) => word !== "" && !/[\r\n]/.test(word)) && !LIST.test(lines);
  return isPlain ? lines : JSON.stringify(words);
}

/** The words of a text that took the place of `shown`; `null` where one of the two is JSON and the text is no such list. */
export function readWords(text: string, shown: string): string[] | null {
  const lines = text.replace(/\n+$/, "");
  if (lines === "") return [];
  if (!LIST.test(text) && !LIST.test(shown)) return lines.split("\n");
  try {
    const words = JSON.parse(text) as unknown;
    return Array.isArray(words) && words.every((word) => typeof word === "string") ? words : null;
  } catch {
    return null;
  }
}
