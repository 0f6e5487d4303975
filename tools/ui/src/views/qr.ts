// QR codes (ISO/IEC 18004) of a text: byte mode, error correction level M, the smallest of the 40 versions that holds it. Pure.

const ECC_WORDS = [
  0, 10, 16, 26, 18, 24, 16, 18, 22, 22, 26, 30, 22, 22, 24, 24, 28, 28, 26, 26, 26, 26, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  28, 28, 28, 28, 28, 28, 28, 28, 28,
];
const BLOCKS = [
  0, 1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 8, 9, 9, 10, 10, 11, 13, 14, 16, 17, 17, 18, 20, 21, 23, 25, 26, 28, 29, 31, 33, 35, 37,
  38, 40, 43, 45, 47, 49,
];
const LEVEL_M_BITS = 0;
const BYTE_MODE = 4;
const MASKS: readonly ((x: number, y: number) => boolean)[] = [
  (x, y) => (x + y) % 2 === 0,
  (_, y) => y % 2 === 0,
  (x) => x % 3 === 0,
  (x, y) => (x + y) % 3 === 0,
  (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2 === 0,
  (x, y) => ((x * y) % 2) + ((x * y) % 3) === 0,
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2 === 0,
  (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2 === 0,
];

export interface QrCode {
  version: number;
  mask: number;
  /** Rows of dark (true) and light modules, without the quiet zone. */
  modules: boolean[][];
}

/** Encode a text as UTF-8. Raises `RangeError` where it is longer than 2331 bytes. */
export function qrCode(text: string, wantedMask?: number): QrCode {
  const data = new TextEncoder().encode(text);
  let version = 1;
  while (version <= 40 && headBits(version) + data.length * 8 > dataWords(version) * 8) version += 1;
  if (version > 40) throw new RangeError(`A QR code does not hold ${data.length} bytes`);
  const words = interleave(dataWordsOf(data, version), version);
  const plain = new Grid(version);
  plain.drawPatterns();
  plain.drawWords(words);
  const masks = wantedMask === undefined ? MASKS.map((_, mask) => mask) : [wantedMask];
  let best: { grid: Grid; mask: number; penalty: number } | undefined;
  for (const mask of masks) {
    const grid = plain.masked(mask);
    const penalty = masks.length === 1 ? 0 : penaltyOf(grid.modules);
    if (!best || penalty < best.penalty) best = { grid, mask, penalty };
  }
  if (!best) throw new RangeError("There is no such mask");
  return { version, mask: best.mask, modules: best.grid.modules };
}

/** The dark modules as the path of one SVG element, on a grid of one unit a module. */
export function pathOf(modules: readonly (readonly boolean[])[]): string {
  let path = "";
  modules.forEach((row, y) => {
    for (let x = 0; x < row.length; x += 1) {
      if (!row[x]) continue;
      const from = x;
      while (row[x + 1]) x += 1;
      path += `M${from} ${y}h${x - from + 1}v1h-${x - from + 1}z`;
    }
  });
  return path;
}

// ---------------------------------------------------------------- code words

function headBits(version: number): number {
  return 4 + (version < 10 ? 8 : 16);
}

/** How many bits there are for code words, remainder bits included. */
function rawBits(version: number): number {
  let bits = (16 * version + 128) * version + 64;
  if (version >= 2) {
    const count = Math.floor(version / 7) + 2;
    bits -= (25 * count - 10) * count - 55;
    if (version >= 7) bits -= 36;
  }
  return bits;
}

function dataWords(version: number): number {
  return Math.floor(rawBits(version) / 8) - (ECC_WORDS[version] ?? 0) * (BLOCKS[version] ?? 0);
}

function dataWordsOf(data: Uint8Array, version: number): number[] {
  const bits: number[] = [];
  const push = (value: number, length: number): void => {
    for (let bit = length - 1; bit >= 0; bit -= 1) bits.push((value >>> bit) & 1);
  };
  push(BYTE_MODE, 4);
  push(data.length, headBits(version) - 4);
  for (const byte of data) push(byte, 8);
  const capacity = dataWords(version) * 8;
  push(0, Math.min(4, capacity - bits.length));
  push(0, (8 - (bits.length % 8)) % 8);
  for (let pad = 0xec; bits.length < capacity; pad ^= 0xec ^ 0x11) push(pad, 8);
  const words: number[] = [];
  for (let at = 0; at < bits.length; at += 8) words.push(bits.slice(at, at + 8).reduce((word, bit) => (word << 1) | bit, 0));
  return words;
}

/** Split into blocks, add each block's error correction, and take the blocks' words in turn. */
function interleave(words: readonly number[], version: number): number[] {
  const blockCount = BLOCKS[version] ?? 1;
  const eccCount = ECC_WORDS[version] ?? 0;
  const total = Math.floor(rawBits(version) / 8);
  const shortCount = blockCount - (total % blockCount);
  const shortLength = Math.floor(total / blockCount) - eccCount;
  const generator = generatorOf(eccCount);
  const blocks: { data: number[]; ecc: number[] }[] = [];
  let at = 0;
  for (let block = 0; block < blockCount; block += 1) {
    const length = shortLength + (block < shortCount ? 0 : 1);
    const data = words.slice(at, at + length);
    at += length;
    blocks.push({ data, ecc: remainder(data, generator) });
  }
  const result: number[] = [];
  for (let index = 0; index <= shortLength; index += 1) {
    for (const { data } of blocks) if (index < data.length) result.push(data[index] ?? 0);
  }
  for (let index = 0; index < eccCount; index += 1) for (const { ecc } of blocks) result.push(ecc[index] ?? 0);
  return result;
}

/** Multiplication in GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1. */
function multiply(a: number, b: number): number {
  let product = 0;
  for (let bit = 7; bit >= 0; bit -= 1) {
    product = (product << 1) ^ ((product >>> 7) * 0x11d);
    product ^= ((b >>> bit) & 1) * a;
  }
  return product;
}

function generatorOf(degree: number): number[] {
  const result = new Array<number>(degree).fill(0);
  result[degree - 1] = 1;
  let root = 1;
  for (let step = 0; step < degree; step += 1) {
    for (let index = 0; index < degree; index += 1) {
      result[index] = multiply(result[index] ?? 0, root) ^ (result[index + 1] ?? 0);
    }
    root = multiply(root, 2);
  }
  return result;
}

function remainder(data: readonly number[], generator: readonly number[]): number[] {
  const result = generator.map(() => 0);
  for (const word of data) {
    const factor = word ^ (result.shift() ?? 0);
    result.push(0);
    generator.forEach((coefficient, index) => {
      result[index] = (result[index] ?? 0) ^ multiply(coefficient, factor);
    });
  }
  return result;
}

// ---------------------------------------------------------------- the grid

class Grid {
  readonly size: number;
  modules: boolean[][];
  private fixed: boolean[][];

  constructor(private readonly version: number) {
    this.size = version * 4 + 17;
    const blank = (): boolean[][] => Array.from({ length: this.size }, () => new Array<boolean>(this.size).fill(false));
    this.modules = blank();
    this.fixed = blank();
  }

  drawPatterns(): void {
    const last = this.size - 1;
    for (let index = 0; index < this.size; index += 1) {
      this.fix(6, index, index % 2 === 0);
      this.fix(index, 6, index % 2 === 0);
    }
    for (const [x, y] of [[3, 3], [last - 3, 3], [3, last - 3]] as const) this.drawFinder(x, y);
    const centres = alignmentCentres(this.version, this.size);
    const end = centres.length - 1;
    centres.forEach((x, i) =>
      centres.forEach((y, j) => {
        const atFinder = (i === 0 && j === 0) || (i === 0 && j === end) || (i === end && j === 0);
        if (!atFinder) this.drawAlignment(x, y);
      }),
    );
    this.drawFormat(0);
    this.drawVersion();
  }

  drawWords(words: readonly number[]): void {
    let bit = 0;
    for (let right = this.size - 1; right >= 1; right -= 2) {
      if (right === 6) right = 5;
      for (let step = 0; step < this.size; step += 1) {
        for (let column = 0; column < 2; column += 1) {
          const x = right - column;
          const upwards = ((right + 1) & 2) === 0;
          const y = upwards ? this.size - 1 - step : step;
          if (this.fixed[y]?.[x]) continue;
          if (bit < words.length * 8) this.put(x, y, (((words[bit >>> 3] ?? 0) >>> (7 - (bit & 7))) & 1) === 1);
          bit += 1;
        }
      }
    }
  }

  masked(mask: number): Grid {
    const grid = new Grid(this.version);
    const flip = MASKS[mask];
    if (!flip) throw new RangeError("There is no such mask");
    grid.fixed = this.fixed;
    grid.modules = this.modules.map((row, y) => row.map((dark, x) => (this.fixed[y]?.[x] ? dark : dark !== flip(x, y))));
    grid.drawFormat(mask);
    return grid;
  }

  private put(x: number, y: number, dark: boolean): void {
    const row = this.modules[y];
    if (row && x >= 0 && x < this.size) row[x] = dark;
  }

  private fix(x: number, y: number, dark: boolean): void {
    this.put(x, y, dark);
    const row = this.fixed[y];
    if (row && x >= 0 && x < this.size) row[x] = true;
  }

  private drawFinder(x: number, y: number): void {
    for (let dy = -4; dy <= 4; dy += 1) {
      for (let dx = -4; dx <= 4; dx += 1) {
        const ring = Math.max(Math.abs(dx), Math.abs(dy));
        this.fix(x + dx, y + dy, ring !== 2 && ring !== 4);
      }
    }
  }

  private drawAlignment(x: number, y: number): void {
    for (let dy = -2; dy <= 2; dy += 1) {
      for (let dx = -2; dx <= 2; dx += 1) this.fix(x + dx, y + dy, Math.max(Math.abs(dx), Math.abs(dy)) !== 1);
    }
  }

  private drawFormat(mask: number): void {
    const data = (LEVEL_M_BITS << 3) | mask;
    let rest = data;
    for (let step = 0; step < 10; step += 1) rest = (rest << 1) ^ ((rest >>> 9) * 0x537);
    const bits = ((data << 10) | rest) ^ 0x5412;
    const bit = (index: number): boolean => ((bits >>> index) & 1) === 1;
    for (let index = 0; index <= 5; index += 1) this.fix(8, index, bit(index));
    this.fix(8, 7, bit(6));
    this.fix(8, 8, bit(7));
    this.fix(7, 8, bit(8));
    for (let index = 9; index < 15; index += 1) this.fix(14 - index, 8, bit(index));
    for (let index = 0; index < 8; index += 1) this.fix(this.size - 1 - index, 8, bit(index));
    for (let index = 8; index < 15; index += 1) this.fix(8, this.size - 15 + index, bit(index));
    this.fix(8, this.size - 8, true);
  }

  private drawVersion(): void {
    if (this.version < 7) return;
    let rest = this.version;
    for (let step = 0; step < 12; step += 1) rest = (rest << 1) ^ ((rest >>> 11) * 0x1f25);
    const bits = (this.version << 12) | rest;
    for (let index = 0; index < 18; index += 1) {
      const dark = ((bits >>> index) & 1) === 1;
      const far = this.size - 11 + (index % 3);
      const near = Math.floor(index / 3);
      this.fix(far, near, dark);
      this.fix(near, far, dark);
    }
  }
}

function alignmentCentres(version: number, size: number): number[] {
  if (version === 1) return [];
  const count = Math.floor(version / 7) + 2;
  const step = Math.floor((version * 8 + count * 3 + 5) / (count * 4 - 4)) * 2;
  const centres = [6];
  for (let position = size - 7; centres.length < count; position -= step) centres.splice(1, 0, position);
  return centres;
}

// ---------------------------------------------------------------- which mask reads best

function penaltyOf(modules: readonly (readonly boolean[])[]): number {
  const size = modules.length;
  const columns = modules.map((_, x) => modules.map((row) => row[x] ?? false));
  let penalty = 0;
  for (const line of [...modules, ...columns]) penalty += runsPenalty(line) + finderPenalty(line);
  let dark = 0;
  for (let y = 0; y < size; y += 1) {
    for (let x = 0; x < size; x += 1) {
      const module = modules[y]?.[x];
      if (module) dark += 1;
      if (x + 1 >= size || y + 1 >= size) continue;
      if (module === modules[y]?.[x + 1] && module === modules[y + 1]?.[x] && module === modules[y + 1]?.[x + 1]) penalty += 3;
    }
  }
  return penalty + Math.max(0, Math.ceil(Math.abs(dark * 20 - size * size * 10) / (size * size)) - 1) * 10;
}

function runsPenalty(line: readonly boolean[]): number {
  let penalty = 0;
  let run = 1;
  for (let at = 1; at <= line.length; at += 1) {
    if (at < line.length && line[at] === line[at - 1]) run += 1;
    else {
      if (run >= 5) penalty += run - 2;
      run = 1;
    }
  }
  return penalty;
}

/** 40 for each 1:1:3:1:1 with four light modules before or after it, as a finder has. */
function finderPenalty(line: readonly boolean[]): number {
  let penalty = 0;
  const light = (from: number): boolean => [0, 1, 2, 3].every((step) => line[from + step] !== true);
  for (let at = 0; at + 7 <= line.length; at += 1) {
    const found = [true, false, true, true, true, false, true].every((dark, step) => line[at + step] === dark);
    if (!found) continue;
    if (light(at - 4)) penalty += 40;
    if (light(at + 7)) penalty += 40;
  }
  return penalty;
}
