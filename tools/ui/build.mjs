// Builds the designer that the daemon serves: src/main.tsx into rnd/web/static/, the same bytes from the same sources.
//
//   node build.mjs           build into rnd/web/static/
//   node build.mjs --watch   build again at every change, with a source map
//   node build.mjs --check   build elsewhere and say whether rnd/web/static/ is that, byte for byte; size included
//   node build.mjs --test    bundle test/*.test.ts and run them with node's test runner

import { createHash } from "node:crypto";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import * as esbuild from "esbuild";
import { minify } from "terser";

const here = dirname(fileURLToPath(import.meta.url));
const committed = join(here, "..", "..", "rnd", "web", "static");
const MAX_GZIPPED_BYTES = 200 * 1000;
const MANIFEST = "BUILD.json";
const SCRIPT = "main.js";
const LICENCES = "main.js.LEGAL.txt";
// What decides over the bytes of the bundle, besides everything below src/.
const ROOT_SOURCES = ["package.json", "tsconfig.json", "build.mjs", "index.html", "icon.svg"];
const AS_THEY_ARE = ["index.html", "icon.svg"];

// What is imported from React comes by name; React's own modules, which are CommonJS, require each other as they are.
const NAMED = { react: "src/lean/react.ts", "react/jsx-runtime": "src/lean/react_jsx.ts" };
const named = {
  name: "named",
  setup: (setup) => setup.onResolve({ filter: /^react(\/jsx-runtime)?$/ }, ({ path, kind, importer }) => {
    const stand = join(here, NAMED[path]);
    return kind === "import-statement" && importer !== stand ? { path: stand } : undefined;
  }),
};

/** Options that every build has in common. Names of entry points and licences never depend on the working directory. */
const options = {
  absWorkingDir: here,
  entryPoints: { main: "src/main.tsx" },
  bundle: true,
  format: "esm",
  target: ["es2022", "chrome110", "firefox110", "safari16"],
  jsx: "automatic",
  minify: true,
  charset: "utf8",
  legalComments: "none",
  define: { "process.env.NODE_ENV": '"production"' },
  loader: { ".svg": "dataurl" },
  // The canvas never animates a move; what d3 needs for that would be a tenth of the bundle.
  alias: { "d3-transition": "./src/lean/d3_transition.ts", "d3-interpolate": "./src/lean/d3_interpolate.ts" },
  plugins: [named],
  logLevel: "warning",
  metafile: true,
  write: false,
};

function sha256(bytes) {
  return createHash("sha256").update(bytes).digest("hex");
}

function filesBelow(folder) {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && !entry.name.startsWith("."))
    .map((entry) => relative(here, join(entry.parentPath ?? entry.path, entry.name)).split(sep).join("/"));
}

/** sha256 of every source by its path in tools/ui, in one order everywhere. */
function sourceDigests() {
  const names = [...ROOT_SOURCES, ...filesBelow(join(here, "src"))].sort();
  return Object.fromEntries(names.map((name) => [name, sha256(readFileSync(join(here, name)))]));
}

/** The licence of every package whose code is in the bundle, as its authors wrote it. */
function licences(metafile) {
  const packages = new Set();
  for (const input of Object.keys(metafile.inputs)) {
    const found = /^(node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(input);
    if (found) packages.add(found[1]);
  }
  const texts = [...packages].sort().map((folder) => {
    const about = JSON.parse(readFileSync(join(here, folder, "package.json"), "utf8"));
    const file = readdirSync(join(here, folder)).find((name) => /^licen[cs]e(\.|$)/i.test(name));
    if (!file) throw new Error(`${folder} has no file with its licence`);
    const text = readFileSync(join(here, folder, file), "utf8").replace(/\r\n/g, "\n").trim();
    return `${about.name} ${about.version} (${about.license})\n\n${text}\n`;
  });
  return `main.js and main.css contain code of these packages.\n\n${texts.join(`\n${"-".repeat(72)}\n\n`)}`;
}

/** The whole of rnd/web/static/ as name -> bytes. */
async function build() {
  const result = await esbuild.build({ ...options, outdir: "static" });
  const files = new Map(
    result.outputFiles.map((file) => [relative(join(here, "static"), file.path), Buffer.from(file.contents)]),
  );
  // esbuild leaves a thirtieth that terser finds: it looks into functions, not only at names and spaces.
  const small = await minify(files.get(SCRIPT).toString(), { module: true, ecma: 2020 });
  files.set(SCRIPT, Buffer.from(small.code));
  files.set(LICENCES, Buffer.from(licences(result.metafile)));
  for (const name of AS_THEY_ARE) files.set(name, readFileSync(join(here, name)));
  const digests = Object.fromEntries([...files].sort(([a], [b]) => (a < b ? -1 : 1)).map(([n, b]) => [n, sha256(b)]));
  const manifest = {
    about: "Made by tools/ui/build.mjs; do not edit. sha256 of what it was made from and of what was made.",
    lockfile: sha256(readFileSync(join(here, "package-lock.json"))),
    sources: sourceDigests(),
    outputs: digests,
  };
  files.set(MANIFEST, Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`));
  return files;
}

/** What a browser fetches, gzipped; fails above the limit. */
function weigh(files) {
  const fetched = [...files].filter(([name]) => name !== LICENCES && name !== MANIFEST);
  const bytes = fetched.reduce((sum, [, content]) => sum + gzipSync(content, { level: 9 }).length, 0);
  console.log(`${fetched.length} files, ${(bytes / 1000).toFixed(1)} kB gzipped (limit ${MAX_GZIPPED_BYTES / 1000} kB)`);
  if (bytes > MAX_GZIPPED_BYTES) throw new Error("the bundle is too large: see docs/developing.md");
}

function write(files) {
  mkdirSync(committed, { recursive: true });
  for (const name of readdirSync(committed)) if (!files.has(name)) rmSync(join(committed, name));
  for (const [name, content] of files) writeFileSync(join(committed, name), content);
}

function check(files) {
  const there = new Set(readdirSync(committed));
  const wrong = [...files].filter(([name, content]) => {
    return !there.has(name) || !readFileSync(join(committed, name)).equals(content);
  });
  const names = [...wrong.map(([name]) => name), ...[...there].filter((name) => !files.has(name))];
  if (names.length) throw new Error(`rnd/web/static is not what the sources make (${names.join(", ")}): npm run build`);
  console.log("rnd/web/static is what the sources make");
}

async function watch() {
  const writer = {
    name: "write",
    setup: (setup) => setup.onEnd((result) => {
      for (const file of result.outputFiles ?? []) {
        mkdirSync(committed, { recursive: true });
        writeFileSync(join(committed, relative(join(here, "static"), file.path)), file.contents);
      }
      for (const name of AS_THEY_ARE) writeFileSync(join(committed, name), readFileSync(join(here, name)));
      console.log(`${result.errors.length ? "failed" : "built"}; reload the page. Before a commit: npm run build`);
    }),
  };
  const context = await esbuild.context({
    ...options, outdir: "static", minify: false, sourcemap: "inline", plugins: [named, writer],
    define: { "process.env.NODE_ENV": '"development"' },
  });
  await context.watch();
}

async function test() {
  const folder = mkdtempSync(join(tmpdir(), "rnd-ui-test-"));
  try {
    const tests = filesBelow(join(here, "test")).filter((name) => /\.test\.tsx?$/.test(name));
    if (!tests.length) throw new Error("there is no test in tools/ui/test");
    await esbuild.build({
      absWorkingDir: here, entryPoints: tests, outdir: folder, outExtension: { ".js": ".mjs" }, bundle: true,
      platform: "node", format: "esm", target: "node18", jsx: "automatic", sourcemap: "inline", logLevel: "warning",
    });
    const made = readdirSync(folder).filter((name) => name.endsWith(".mjs")).map((name) => join(folder, name));
    const run = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...made], { stdio: "inherit" });
    process.exitCode = run.status ?? 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const task = process.argv[2] ?? "--build";
try {
  if (task === "--watch") await watch();
  else if (task === "--test") await test();
  else if (task === "--check" || task === "--build") {
    const files = await build();
    weigh(files);
    if (task === "--check") check(files);
    else write(files);
  } else throw new Error(`${task} is none of --build, --watch, --check, --test`);
} catch (error) {
  console.error(`build.mjs: ${error.message}`);
  process.exitCode = 1;
}
