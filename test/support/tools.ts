/**
 * Programs of the system that tests use as oracles: e2fsprogs, sfdisk, sgdisk, mount.
 *
 * On a developer's machine a missing program skips the test and says why; under `CI=true` it fails,
 * so that a lost package cannot turn the checks off unseen. In use:
 *
 *     const hasSfdisk = requireTool("sfdisk");                      // at module level
 *     const scratch = scratchDirectory("mbr");                      // gone after the test file
 *     test.skipIf(!hasSfdisk)("reads what sfdisk wrote", () => {
 *       const image = join(scratch, "disk.img");
 *       runTool("sfdisk", [image], { input: "label: dos\n" });      // throws with its stderr
 *     });
 *     const mayMount = requireRoot("mounting an image");            // likewise for rights
 */
import { execFileSync } from "node:child_process";
import { accessSync, constants, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterAll } from "vitest";

const { PATH = "", CI = "" } = process.env;

/** Administration tools lie outside the usual PATH of an unprivileged user on Debian. */
const SEARCH_PATH: string = [PATH, "/usr/sbin", "/sbin", "/usr/local/sbin"].join(delimiter);
const OUTPUT_BYTES_MAX = 256 * 1024 * 1024;

/** True where a missing oracle is a failure. */
export function isCi(): boolean {
  return CI !== "" && CI !== "false" && CI !== "0";
}

/** Where the program `name` lies, `undefined` if it is not installed. */
export function findTool(name: string): string | undefined {
  for (const directory of SEARCH_PATH.split(delimiter)) {
    if (directory === "") continue;
    const path = join(directory, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this directory.
    }
  }
  return undefined;
}

const reported = new Set<string>();

function missing(what: string): false {
  if (isCi()) throw new Error(`${what}; under CI that is a failure`);
  if (!reported.has(what)) console.warn(`skipped: ${what}`);
  reported.add(what);
  return false;
}

/** True if the program `name` can be run. Else false, with a line that says so; throws under CI. */
export function requireTool(name: string): boolean {
  return findTool(name) !== undefined || missing(`the program "${name}" is not installed`);
}

/** True if we run as root. */
export function asRoot(): boolean {
  return process.getuid?.() === 0;
}

/** True if we run as root, which `purpose` needs. Else as `requireTool`. */
export function requireRoot(purpose: string): boolean {
  return asRoot() || missing(`${purpose} needs root`);
}

/** How `runTool` is to run it. */
export interface RunOptions {
  readonly input?: string | Uint8Array;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Exit codes that are no failure, as 1 of `e2fsck` ("errors corrected"); 0 always is none. */
  readonly okCodes?: readonly number[];
}

function runRaw(name: string, args: readonly string[], options: RunOptions): Buffer {
  const path = findTool(name);
  if (path === undefined) throw new Error(`the program "${name}" is not installed`);
  try {
    return execFileSync(path, args, {
      input: options.input ?? "",
      cwd: options.cwd,
      env: { ...process.env, PATH: SEARCH_PATH, LC_ALL: "C.UTF-8", TZ: "UTC", ...options.env },
      stdio: ["pipe", "pipe", "pipe"],
      maxBuffer: OUTPUT_BYTES_MAX,
    });
  } catch (thrown) {
    const failed = thrown as { status?: number | null; stdout?: Buffer; stderr?: Buffer };
    if (typeof failed.status === "number" && options.okCodes?.includes(failed.status)) {
      return failed.stdout ?? Buffer.alloc(0);
    }
    const said = `${failed.stderr ?? ""}${failed.stdout ?? ""}`.trim();
    throw new Error(`${name} ${args.join(" ")}: exit ${failed.status}\n${said}`, { cause: thrown });
  }
}

/**
 * Runs `name` to its end, in the C locale, and returns what it printed. Throws with its stderr on
 * failure.
 */
export function runTool(name: string, args: readonly string[], options: RunOptions = {}): string {
  return runRaw(name, args, options).toString("utf8");
}

/** As `runTool`, for output that is not text. */
export function runToolBytes(
  name: string,
  args: readonly string[],
  options: RunOptions = {},
): Uint8Array {
  return runRaw(name, args, options);
}

/**
 * A fresh directory that is removed after the test file. Call it at module level or in
 * `beforeAll`.
 */
export function scratchDirectory(name: string): string {
  const path = mkdtempSync(join(tmpdir(), `quire-${name}-`));
  afterAll(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
