/**
 * Real images for tests: made by mke2fs, filled through the kernel's own driver, read by ours.
 *
 *     const image = makeExtImage(join(scratch, "a.img"), "64M", ["-t", "ext4"]);
 *     withKernelMount(image, (root) => writeFileSync(join(root, "f"), "x"));
 *     const opened = await openExtImage(image);              // closed by `opened.close()`
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { StoreBlockDevice } from "../../src/block/block-device.ts";
import { PageCache } from "../../src/cache/page-cache.ts";
import { type ExtFileSystem, mountExt } from "../../src/fs/ext/ext-fs.ts";
import type { ExtInode } from "../../src/fs/ext/inode.ts";
import type { DirectoryEntry } from "../../src/fs/vfs.ts";
import { realClock } from "../../src/lib/clock.ts";
import { MIB } from "../../src/lib/units.ts";
import { CountingStore } from "../../src/store/counting-store.ts";
import { openFileStore } from "../../src/store/file-store.ts";
import { runTool } from "./tools.ts";

/**
 * Makes an image of `size` ("64M") at `path` with the options `args` of mke2fs, and returns its
 * path.
 */
export function makeExtImage(path: string, size: string, args: readonly string[]): string {
  const lazy = "lazy_itable_init=1,lazy_journal_init=1";
  runTool("mke2fs", ["-q", "-F", "-E", lazy, ...args, path, size]);
  return path;
}

/** Runs `body` with `image` mounted by the kernel at the given directory; it is unmounted after. */
export function withKernelMount<T>(
  image: string,
  body: (root: string) => T,
  options = "rw,noatime",
): T {
  const root = mkdtempSync(join(tmpdir(), "quire-mount-"));
  runTool("mount", ["-o", `loop,${options}`, image, root]);
  try {
    return body(root);
  } finally {
    runTool("umount", [root]);
    rmSync(root, { recursive: true });
  }
}

/**
 * Runs the commands of debugfs on `image`, writing, and returns what they print, prompts included.
 */
export function runDebugfs(image: string, commands: readonly string[]): string {
  return runTool("debugfs", ["-w", image], { input: `${commands.join("\n")}\n` });
}

/** An image that our driver has opened, and the counters below it. */
export interface OpenedImage {
  readonly fs: ExtFileSystem;
  readonly store: CountingStore;
  close(): Promise<void>;
}

/** Opens `image` with our driver. */
export async function openExtImage(image: string): Promise<OpenedImage> {
  const file = await openFileStore(image);
  const store = new CountingStore(file);
  const bdev = new StoreBlockDevice(store, { clock: realClock });
  const cache = new PageCache({ arenaBytes: 64 * MIB, clock: realClock });
  const fs = await mountExt(bdev, cache, { clock: realClock });
  return {
    fs,
    store,
    async close() {
      await fs.close();
      await bdev.close();
      await file.close();
    },
  };
}

/** The inode behind the path `names`, from the root on. */
export async function inodeAt(fs: ExtFileSystem, ...names: readonly string[]): Promise<ExtInode> {
  let inode = await fs.inode(fs.rootIno);
  for (const name of names) {
    const ino = await fs.lookup(inode, new TextEncoder().encode(name));
    if (ino === 0) throw new Error(`there is no ${name} in inode ${inode.ino}`);
    inode = await fs.inode(ino);
  }
  return inode;
}

/** All entries of `dir`, `.` and `..` among them, in stored order. */
export async function entriesOf(fs: ExtFileSystem, dir: ExtInode): Promise<DirectoryEntry[]> {
  const entries: DirectoryEntry[] = [];
  for (let cookie = 0; cookie !== -1; ) {
    const batch = await fs.readdir(dir, cookie);
    entries.push(...batch.entries);
    cookie = batch.nextCookie;
  }
  return entries;
}
