/**
 * Images whose journals the kernel left dirty: copied while they were mounted, after a sync or
 * fsync, so that they look as after a crash; and the tree that the kernel shows once it has
 * recovered a copy.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { manifestOf } from "../../src/front/cli/manifest.ts";
import { walkTree } from "../../src/front/tree/walk.ts";
import type { ExtFileSystem } from "../../src/fs/ext/ext-fs.ts";
import { runTool } from "./tools.ts";

const ORACLE: string = fileURLToPath(new URL("kernel_manifest.py", import.meta.url));

/** A line of a manifest. */
export type ManifestLine = Readonly<Record<string, unknown>>;

/** What makes a journal dirty. */
export interface DirtyOptions {
  readonly directory: string;
  readonly name: string;
  /** Options of mke2fs. */
  readonly args: readonly string[];
  readonly sizeText: string;
  /** Options of mount, beside those that all have. */
  readonly mountOptions?: string;
  /** Python, run in the root of the mounted image; it ends with a sync of some kind. */
  readonly work: string;
}

/** Makes the image, works in it and copies it while it is mounted. Returns the path of the copy. */
export function makeDirtyImage(options: DirtyOptions): string {
  const { directory, name } = options;
  const live = join(directory, `${name}.live.img`);
  const dirty = join(directory, `${name}.dirty.img`);
  runTool("mke2fs", ["-q", "-F", ...options.args, live, options.sizeText]);
  const extra = options.mountOptions === undefined ? "" : `,${options.mountOptions}`;
  whileMounted(directory, live, `loop,commit=300${extra}`, (root) => {
    execFileSync("python3", ["-c", options.work], { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
    copyFileSync(live, dirty);
  });
  return dirty;
}

/** Mounts `image` below `directory`, calls `use` with the root, and unmounts it again. */
export function whileMounted<T>(
  directory: string,
  image: string,
  options: string,
  use: (root: string) => T,
): T {
  const root = join(directory, "mounted");
  mkdirSync(root, { recursive: true });
  runTool("mount", ["-o", options, image, root]);
  try {
    return use(root);
  } finally {
    runTool("umount", [root]);
  }
}

/** Lets the kernel recover a copy of `dirty` and returns its path. */
export function recoverCopy(directory: string, dirty: string, mountOptions = "loop"): string {
  const recovered = `${dirty}.recovered`;
  copyFileSync(dirty, recovered);
  whileMounted(directory, recovered, mountOptions, () => undefined);
  return recovered;
}

/** The tree in `image` as the kernel shows it, read only. */
export function kernelManifest(
  directory: string,
  image: string,
  options = "loop,ro",
): ManifestLine[] {
  return whileMounted(directory, image, options, (root) => {
    const text = execFileSync("python3", [ORACLE, root], { maxBuffer: 2 ** 28 }).toString("utf8");
    return linesOf(text);
  });
}

function linesOf(text: string): ManifestLine[] {
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as ManifestLine);
}

/** The tree of `fs` in the same form. */
export async function manifestOfTree(fs: ExtFileSystem): Promise<ManifestLine[]> {
  const lines: ManifestLine[] = [];
  const fail = (error: unknown): void => {
    throw error;
  };
  for await (const visit of walkTree(fs, await fs.inode(fs.rootIno), {})) {
    lines.push(await manifestOf(fs, visit, () => undefined, fail));
  }
  return linesOf(lines.map((line) => JSON.stringify(line)).join("\n"));
}

export function sha256Of(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}
