/**
 * Both sides of "equal to what the kernel shows": `quire manifest` of an image, run in this
 * process, and the manifest of the same image mounted by the kernel, found out by ordinary system
 * calls.
 *
 *     const image = makeExtImage(join(scratch, "a.img"), "64M", ["-t", "ext4"]);
 *     fillImage(image, ["sizes", "holes"]);                   // parts of fill_tree.py
 *     await expectKernelManifest(image);
 */
import { Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { run } from "../../src/front/cli/program.ts";
import { withKernelMount } from "./kernel-image.ts";
import { requireRoot, requireTool, runTool } from "./tools.ts";

const FILL_SCRIPT = fileURLToPath(new URL("./fill_tree.py", import.meta.url));
const MANIFEST_SCRIPT = fileURLToPath(new URL("./kernel_manifest.py", import.meta.url));

const PROGRAMS = ["mke2fs", "tune2fs", "debugfs", "mount", "umount", "python3"];

/** True where images can be made, filled and mounted. */
export function mayCompareWithKernel(): boolean {
  return PROGRAMS.every(requireTool) && requireRoot("mounting an image");
}

/** The parts of `fill_tree.py` that every ext file system can hold. */
export const COMMON_PARTS: readonly string[] = [
  ...["sizes", "names", "links", "specials", "owners", "times", "holes", "flags", "xattrs"],
  ...["acls", "directories", "churn"],
];

/** Makes the directories `parts` in the tree at `root`; see `fill_tree.py`. */
export function fillTree(root: string, parts: readonly string[]): void {
  runTool("python3", [FILL_SCRIPT, root, ...parts]);
}

/** Makes the directories `parts` in the image, mounted by the kernel with `options`. */
export function fillImage(
  image: string,
  parts: readonly string[],
  options = "rw,strictatime",
): void {
  withKernelMount(image, (root) => fillTree(root, parts), options);
}

/** One file as a manifest describes it. */
export interface ManifestLine {
  readonly path: string;
  readonly path_b64?: string;
  readonly type: string;
  readonly ino: number;
  readonly nlink: number;
  readonly blocks: number;
  readonly size?: number;
  readonly data?: readonly (readonly [number, number])[];
  readonly flags?: string;
  readonly error?: string;
  readonly xattrs?: Readonly<Record<string, string>>;
}

/**
 * Lines in a form that can be compared as text. Where bytes are not UTF-8 their base64 says all;
 * the text beside it is each side's own.
 */
function canonical(output: string): string[] {
  const lines = output.split("\n").filter((line) => line !== "");
  return lines.map((text) => {
    const line = JSON.parse(text) as Record<string, unknown>;
    for (const field of ["path", "target"]) if (`${field}_b64` in line) line[field] = null;
    return JSON.stringify(line);
  });
}

/** What a run of `quire` left behind. */
export interface CommandResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

function sink(chunks: Buffer[]): Writable {
  return new Writable({
    write(chunk: Buffer, _encoding, done): void {
      chunks.push(Buffer.from(chunk));
      done();
    },
  });
}

/** Runs `quire` with these arguments in this process. */
export async function runQuire(args: readonly string[]): Promise<CommandResult> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  const streams = { stdout: sink(stdout), stderr: sink(stderr) };
  const exitCode = await run(args, streams, "0.0.0", new AbortController().signal);
  return {
    exitCode,
    stdout: Buffer.concat(stdout).toString("utf8"),
    stderr: Buffer.concat(stderr).toString("utf8"),
  };
}

/** The lines of `quire manifest`; it must succeed and have nothing to warn of but `warning`. */
export async function quireManifest(
  image: string,
  options: { readonly args?: readonly string[]; readonly stderr?: RegExp } = {},
): Promise<string[]> {
  const { exitCode, stdout, stderr } = await runQuire(["manifest", image, ...(options.args ?? [])]);
  expect(stderr).toMatch(options.stderr ?? /^$/);
  if (!stderr.includes("ENOKEY")) expect(exitCode).toBe(0);
  return canonical(stdout);
}

/** The lines of `kernel_manifest.py` over the directory `root`. */
export function treeManifest(root: string): string[] {
  return canonical(runTool("python3", [MANIFEST_SCRIPT, root]));
}

/**
 * The lines of the image freshly mounted by the kernel, read-only unless `options` say otherwise.
 */
export function kernelManifest(image: string, options = "ro"): string[] {
  return withKernelMount(image, treeManifest, options);
}

/** Fails with the first lines that differ, not with whole manifests. */
export function expectSameLines(ours: readonly string[], wanted: readonly string[]): void {
  const differences: (readonly [ours: string | undefined, wanted: string | undefined])[] = [];
  for (let at = 0; at < Math.max(ours.length, wanted.length) && differences.length < 5; at++) {
    if (ours[at] !== wanted[at]) differences.push([ours[at], wanted[at]]);
  }
  expect(differences, differences[0]?.join("\n")).toEqual([]);
}

/** Compares `quire manifest` of `image` with the kernel, and returns the lines. */
export async function expectKernelManifest(image: string): Promise<ManifestLine[]> {
  const wanted = kernelManifest(image);
  const ours = await quireManifest(image);
  expectSameLines(ours, wanted);
  return ours.map((line) => JSON.parse(line) as ManifestLine);
}
