/**
 * Extended attributes of files of this machine. Node has no call for them, so `getfattr` reads
 * them, once for a whole tree; where it is not installed there are none.
 */
import { isUtf8 } from "node:buffer";
import { spawnSync } from "node:child_process";
import { GIB } from "../../lib/units.ts";
import { NO_XATTRS, pathKey } from "../tree/tree-entry.ts";

/** See the head of the file. */
export interface XattrsByPath {
  /** Those of the file at `path`, which lies in the tree. */
  of(path: Uint8Array): ReadonlyMap<string, Uint8Array>;
}

const NONE: XattrsByPath = { of: () => NO_XATTRS };

/** Told of an attribute that is left out: its name is not UTF-8. */
export type OnOddName = (path: string) => void;
const PROGRAM = "getfattr";
const ARGUMENTS = ["-R", "-P", "-h", "-d", "-m", "-", "-e", "base64", "--absolute-names", "--"];

/** Reads those of `root` and all below it; none if they are not wanted or cannot be read. */
export function hostXattrs(root: string, isWanted: boolean, onOddName: OnOddName): XattrsByPath {
  if (!isWanted) return NONE;
  const done = spawnSync(PROGRAM, [...ARGUMENTS, root], {
    stdio: ["ignore", "pipe", "ignore"],
    maxBuffer: GIB,
  });
  if (done.error !== undefined) return NONE;
  const all = parseDump(done.stdout, onOddName);
  if (all.size === 0) return NONE;
  // With slashes at its end `getfattr` names what is in a root in other ways than we do.
  const found = new Map([...all].map(([path, xattrs]) => [withoutSlashes(path), xattrs]));
  return { of: (path) => found.get(withoutSlashes(pathKey(path))) ?? NO_XATTRS };
}

/** A path with one slash between names, and none at its end. */
function withoutSlashes(path: string): string {
  return path.replace(/\/+/g, "/").replace(/(.)\/$/, "$1");
}

/** What `getfattr -d` prints: by path, one letter for each byte. */
export function parseDump(
  dump: Buffer,
  onOddName: OnOddName,
): Map<string, Map<string, Uint8Array>> {
  let path = "";
  const files = new Map<string, Map<string, Uint8Array>>();
  let current = new Map<string, Uint8Array>();
  for (const line of dump.toString("latin1").split("\n")) {
    if (line.startsWith("# file: ")) {
      current = new Map();
      path = unquoted(line.slice("# file: ".length));
      files.set(path, current);
      continue;
    }
    const equals = line.indexOf("=");
    if (line === "" && equals === -1) continue;
    const name = Buffer.from(unquoted(equals === -1 ? line : line.slice(0, equals)), "latin1");
    const value = equals === -1 ? "" : line.slice(equals + 1);
    const bytes = Buffer.from(value.startsWith("0s") ? value.slice(2) : "", "base64");
    if (isUtf8(name)) current.set(name.toString(), new Uint8Array(bytes));
    else onOddName(Buffer.from(path, "latin1").toString());
  }
  return files;
}

/** Takes the backslashes with three octal digits away. */
function unquoted(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
