/** A directory of this machine in the form of `readTree`, to compare an image with it. */
import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { digestOf, type TreeEntry } from "./ext-images.ts";

/** Splits `st_rdev` as Linux does. */
function deviceText(rdev: number): string {
  const major = (rdev >>> 8) & 0xfff;
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xf_ff00);
  return `${major}:${minor}`;
}

function describePath(path: string): TreeEntry {
  const stat = lstatSync(path);
  const isFile = stat.isFile();
  const isDevice = stat.isCharacterDevice() || stat.isBlockDevice();
  return {
    mode: stat.mode.toString(8),
    nlink: stat.nlink,
    uid: stat.uid,
    gid: stat.gid,
    size: isFile ? stat.size : undefined,
    mtimeSec: isFile ? Math.floor(stat.mtimeMs / 1000) : undefined,
    content: isFile ? digestOf(readFileSync(path)) : undefined,
    target: stat.isSymbolicLink() ? readlinkSync(path) : undefined,
    rdev: isDevice ? deviceText(stat.rdev) : undefined,
  };
}

/** Everything below `root`, "lost+found" left out. */
export function hostTree(root: string): Map<string, TreeEntry> {
  const tree = new Map<string, TreeEntry>();
  const visit = (prefix: string): void => {
    for (const name of readdirSync(join(root, prefix))) {
      const path = join(prefix, name);
      if (path === "lost+found") continue;
      const entry = describePath(join(root, path));
      tree.set(path, entry);
      if (entry.mode.startsWith("4")) visit(path);
    }
  };
  visit("");
  return tree;
}
