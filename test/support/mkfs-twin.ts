/**
 * The same file system made twice, by mke2fs into a sparse file and by `makeExt` into memory, and
 * where the two differ.
 */
import { closeSync, ftruncateSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { StoreBlockDevice } from "../../src/block/block-device.ts";
import { type MkfsOptions, type MkfsResult, makeExt } from "../../src/fs/ext/mkfs/index.ts";
import { equalBytes, le16, le32 } from "../../src/lib/bytes.ts";
import { VirtualClock } from "../../src/lib/clock.ts";
import { Random } from "../../src/lib/random.ts";
import { PAGE_BYTES } from "../../src/lib/units.ts";
import { SparseStore } from "./sparse-store.ts";
import { runTool } from "./tools.ts";

const SPARSE_MAP: string = fileURLToPath(new URL("sparse_map.py", import.meta.url));
export const NOW_SEC = 1_700_000_000;
export const UUID_TEXT = "01234567-89ab-cdef-0123-456789abcdef";
const SEED_TEXT = "a0a1a2a3-b0b1-c2c3-d0d1-e0e1e2e3e4e5";

function bytesOfHex(text: string): Uint8Array {
  const digits = text.replaceAll("-", "");
  return Uint8Array.from({ length: digits.length / 2 }, (_, at) =>
    Number.parseInt(digits.slice(2 * at, 2 * at + 2), 16),
  );
}

/** Runs mke2fs with the identity that `makeTwin` uses. `image` has its size already. */
export function runMke2fs(image: string, args: readonly string[], extended: string[] = []): void {
  const more = [`hash_seed=${SEED_TEXT}`, ...extended].join(",");
  runTool("mke2fs", ["-q", "-F", "-U", UUID_TEXT, "-E", more, ...args, image], {
    env: { E2FSPROGS_FAKE_TIME: `${NOW_SEC}` },
  });
}

/** Makes the file system in memory. */
export async function makeTwin(
  sizeBytes: number,
  options: Partial<MkfsOptions>,
  soil: (store: SparseStore) => void = () => {},
): Promise<{ readonly store: SparseStore; readonly result: MkfsResult }> {
  const clock = new VirtualClock();
  clock.spend(NOW_SEC * 1000);
  const store = new SparseStore(sizeBytes);
  soil(store);
  const device = new StoreBlockDevice(store, { clock });
  const result = await makeExt(device, {
    clock,
    random: new Random(1),
    uuid: bytesOfHex(UUID_TEXT),
    hashSeed: bytesOfHex(SEED_TEXT),
    isZeroed: true,
    ...options,
  });
  await device.drain();
  return { store, result };
}

/** Writes what is in `store` into the sparse file `path`. */
export function saveSparse(store: SparseStore, path: string): void {
  const fd = openSync(path, "w");
  try {
    ftruncateSync(fd, store.sizeBytes);
    for (const [page, bytes] of store.pages) {
      const length = Math.min(PAGE_BYTES, store.sizeBytes - page * PAGE_BYTES);
      writeSync(fd, bytes, 0, length, page * PAGE_BYTES);
    }
  } finally {
    closeSync(fd);
  }
}

/** A new sparse file of `sizeBytes`. */
export function emptyFile(directory: string, name: string, sizeBytes: number): string {
  const path = join(directory, name);
  rmSync(path, { force: true });
  const fd = openSync(path, "w");
  ftruncateSync(fd, sizeBytes);
  closeSync(fd);
  return path;
}

const SUPERBLOCK_FIELDS_APART = [
  [0x178, 0x180], // s_kbytes_written: what the tool itself has written.
  [0x3fc, 0x400], // s_checksum, which covers that.
] as const;

/** Blanks the fields that may differ, if there is a superblock at `at`. */
function blank(page: Uint8Array, at: number): void {
  if (le16(page, at + 0x38) !== 0xef53) return;
  for (const [from, to] of SUPERBLOCK_FIELDS_APART) page.fill(0, at + from, at + to);
}

/** Blanks times and names in a block of multi-mount protection. */
function blankMmp(page: Uint8Array, at: number): void {
  if (le32(page, at) !== 0x004d_4d50) return;
  page.fill(0, at + 8, at + 0x70);
  page.fill(0, at + 0x3fc, at + 0x400);
}

/** The pages of `image` and of `store` that differ, as offsets of the first bytes that do. */
export function differences(image: string, store: SparseStore): number[] {
  const { data } = JSON.parse(runTool("python3", [SPARSE_MAP, image])) as {
    data: [number, number][];
  };
  const pages = new Set(store.pages.keys());
  for (const [start, end] of data) {
    for (let page = Math.floor(start / PAGE_BYTES); page * PAGE_BYTES < end; page++)
      pages.add(page);
  }
  const differing: number[] = [];
  const fd = openSync(image, "r");
  const theirs = new Uint8Array(PAGE_BYTES);
  for (const page of [...pages].sort((a, b) => a - b)) {
    theirs.fill(0);
    readSync(fd, theirs, 0, PAGE_BYTES, page * PAGE_BYTES);
    const ours = store.pages.get(page)?.slice() ?? new Uint8Array(PAGE_BYTES);
    for (const bytes of [theirs, ours]) {
      for (let at = 0; at < PAGE_BYTES; at += 1024) {
        blank(bytes, at);
        blankMmp(bytes, at);
      }
    }
    if (!equalBytes(theirs, ours)) {
      differing.push(page * PAGE_BYTES + theirs.findIndex((byte, at) => byte !== ours[at]));
    }
  }
  closeSync(fd);
  return differing;
}
