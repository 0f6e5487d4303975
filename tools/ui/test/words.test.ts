import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { readWords, shownWords } from "../src/parts/words";

describe("words of a command line", () => {
  const lists = [[], ["a"], ["-c", "two words"], ["a\nb", "c"], ["a\rb"], [""], ["a", ""], [" "], ["[]"], ['["x"]'], ["[", "-f", "x"], ["[ab]*.csv"]];
  for (const words of lists) {
    test(`${JSON.stringify(words)} is read as it is shown`, () => {
      const shown = shownWords(words);
      assert.deepEqual(readWords(shown, shown), words);
    });
  }

  test("are one a line, and a line break at the end is none of them", () => {
    assert.equal(shownWords(["-l", "a b"]), "-l\na b");
    assert.deepEqual(readWords("-l\na b\n", ""), ["-l", "a b"]);
    assert.deepEqual(readWords("a\n\nb", ""), ["a", "", "b"]);
  });

  test("are shown as JSON where a line would not do, and can be typed so", () => {
    assert.equal(shownWords(["sh", "a\nb"]), '["sh","a\\nb"]');
    assert.deepEqual(readWords('[\n"sh", "a\\nb"]', "sh"), ["sh", "a\nb"]);
  });

  test("a text that is no list where one is shown is refused, not guessed at", () => {
    const shown = shownWords(["sh", "a\nb"]);
    for (const text of ['["sh","a\\nb"', 'sh","a', '["sh", 1]', "sh"]) assert.equal(readWords(text, shown), null);
  });
});
