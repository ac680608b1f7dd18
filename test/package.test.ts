/**
 * The package as its users get it: the examples of README.md run, every entry can be imported, the
 * browser's needs no Node, and set-up installs once.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { beforeAll, describe, expect, test } from "vitest";
import { scratchDirectory } from "./support/tools.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const folder = scratchDirectory("package");

interface Manifest {
  readonly version: string;
  readonly bin: Readonly<Record<string, string>>;
  readonly exports: Readonly<Record<string, string | Readonly<Record<string, string>>>>;
}
const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as Manifest;

function runNode(args: readonly string[], env: Readonly<Record<string, string>> = {}): string {
  const options = { cwd: folder, encoding: "utf8" as const, env: { ...process.env, ...env } };
  return execFileSync(process.execPath, args, options);
}

beforeAll(() => {
  runNode([join(ROOT, "node_modules/typescript/bin/tsc"), "-b", ROOT]);
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(ROOT, join(folder, "node_modules/quirefs"));
  const packed = readFileSync(join(ROOT, "test/fixtures/demo.img.gz"));
  writeFileSync(join(folder, "disk.img"), gunzipSync(packed));
  writeFileSync(join(folder, "data.bin"), Buffer.alloc(100_000, "quire"));
});

describe("README.md", () => {
  const text = readFileSync(join(ROOT, "README.md"), "utf8");
  const examples = [...text.matchAll(/^```ts\n(.*?)^```/gms)].map((match) => match[1]!);

  test("its first example has five lines, and prints a file and the cache's counters", () => {
    const code = examples[0]!;
    expect(code.split("\n").filter((line) => line.trim() !== "").length).toBeLessThanOrEqual(5);
    writeFileSync(join(folder, "first.mjs"), code);
    const said = runNode(["first.mjs"]);
    expect(said).toContain("NAME=");
    expect(said).toMatch(/hits: \d+/);
  });

  test("all of its examples run", () => {
    expect(examples.length).toBeGreaterThanOrEqual(2);
    examples.forEach((code, at) => {
      writeFileSync(join(folder, `example-${at}.mjs`), code);
      runNode([`example-${at}.mjs`]);
    });
  });

  test("its table of commands is what the program has", () => {
    const listed = [...text.matchAll(/^ {4}quire (\w+) +IMAGE/gm)].map((match) => match[1]!);
    const help = runNode([join(ROOT, manifest.bin["quire"]!), "--help"]);
    const known = [...help.matchAll(/^ {2}(\w+) .*<image>/gm)].map((match) => match[1]!);
    expect(known.filter((verb) => verb !== "overview").sort()).toEqual(listed.sort());
  });
});

describe("entries", () => {
  const targets = Object.entries(manifest.exports).flatMap(([name, target]) =>
    (typeof target === "string" ? [target] : Object.values(target)).map(
      (path) => [name, path] as const,
    ),
  );

  test.each(targets)("%s: %s is there", (_name, path) => {
    expect(existsSync(join(ROOT, path))).toBe(true);
  });

  test("each can be imported by its name, and has something in it", () => {
    const names = Object.keys(manifest.exports).map((name) => name.replace(/^\./, "quirefs"));
    // What is for test files imports their runner, which a process without tests refuses.
    const plain = names.filter((name) => name !== "quirefs/store/conformance");
    const code = `for (const name of ${JSON.stringify(plain)}) {
      console.log(name, Object.keys(await import(name)).length > 0);
    }`;
    writeFileSync(join(folder, "imports.mjs"), code);
    expect(runNode(["imports.mjs"])).toBe(plain.map((name) => `${name} true\n`).join(""));
  });

  test("the command is a script that runs, and knows its version", () => {
    const script = join(ROOT, manifest.bin["quire"]!);
    expect(readFileSync(script, "utf8")).toMatch(/^#!\/usr\/bin\/env node\n/);
    expect(runNode([script, "--version"])).toBe(`${manifest.version}\n`);
  });
});

const IMPORT = /(?:^(?:import|export)\b[^;"]*\bfrom\s*|^import\s*|\bimport\()"([^"]+)"/gm;

/** All files that `entry` imports, itself among them, and what is not a file beside it. */
function graphOf(entry: string): { readonly files: Set<string>; readonly bare: Set<string> } {
  const files = new Set<string>();
  const bare = new Set<string>();
  const todo = [entry];
  for (let path = todo.pop(); path !== undefined; path = todo.pop()) {
    if (files.has(path)) continue;
    files.add(path);
    const code = readFileSync(path, "utf8");
    for (const [, name] of code.matchAll(IMPORT)) {
      if (name!.startsWith(".")) todo.push(join(dirname(path), name!));
      else bare.add(name!);
    }
  }
  return { files, bare };
}

describe("the browser's entry", () => {
  test("imports nothing but files of its own", () => {
    const { files, bare } = graphOf(join(ROOT, "dist/browser.js"));
    expect(files.size).toBeGreaterThan(50);
    expect([...bare]).toEqual([]);
  });

  test("and a graph with Node in it is seen as one", () => {
    expect([...graphOf(join(ROOT, "dist/index.js")).bare]).toContain("node:fs");
  });
});

describe("the command as a process", () => {
  const script = join(ROOT, manifest.bin["quire"]!);

  test("an interrupt ends it with 130, also while nobody takes what it writes", async () => {
    const child = spawn(process.execPath, [script, "manifest", "disk.img"], { cwd: folder });
    await once(child.stdout, "readable"); // Some of it is there, and stays there.
    child.kill("SIGINT");
    const [code] = (await once(child, "exit")) as [number];
    expect(code).toBe(130);
  });

  test("a reader that leaves early is no error", () => {
    const command = `"${process.execPath}" "${script}" manifest disk.img | head -c 100; echo "\${PIPESTATUS[0]}"`;
    const said = execFileSync("bash", ["-c", command], { cwd: folder, encoding: "utf8" });
    expect(said.endsWith("0\n")).toBe(true);
  });
});

describe("set-up", () => {
  test("a second run installs nothing", () => {
    const stamp = join(ROOT, "node_modules/.quire-setup");
    expect(statSync(stamp).isFile()).toBe(true); // `npm test` has made it.
    const tools = join(folder, "bin");
    mkdirSync(tools);
    const trap = join(folder, "npm-was-called");
    writeFileSync(join(tools, "npm"), `#!/bin/sh\ntouch "${trap}"\nexit 1\n`);
    chmodSync(join(tools, "npm"), 0o755);
    const before = statSync(stamp).mtimeMs;
    runNode([join(ROOT, "tools/setup.mjs")], { PATH: `${tools}:${process.env["PATH"]}` });
    expect([existsSync(trap), statSync(stamp).mtimeMs]).toEqual([false, before]);
  });
});
