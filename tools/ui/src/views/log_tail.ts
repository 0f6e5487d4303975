// Where to begin with a stream that may be very long. Pure but for what it asks.

/** Find an offset at most `slack` bytes before the end, without being told where that is: `there` says whether a byte is there. */
export async function offsetNearEnd(there: (offset: number) => Promise<boolean>, known: number, slack: number): Promise<number> {
  let before = known;
  let beyond = known * 2;
  while (await there(beyond)) {
    before = beyond;
    beyond *= 2;
  }
  while (beyond - before > slack) {
    const middle = Math.floor((before + beyond) / 2);
    if (await there(middle)) before = middle;
    else beyond = middle;
  }
  return before;
}
