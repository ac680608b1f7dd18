/**
 * The small file systems that power cuts are tried on, each made once by the real mke2fs and then
 * filled, and with every free byte poisoned.
 *
 *     /a/x  10,000 bytes   /b/x  3,000 bytes   /b/d/  empty      /a/y, /b/y  there is room for
 *                         user.k                             new in /b: with its ACL
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { StoreBlockDevice } from "../../../src/block/block-device.ts";
import { PageCache } from "../../../src/cache/page-cache.ts";
import { openVolume, type Volume } from "../../../src/front/volume.ts";
import {
  ACL_GROUP_OBJ,
  ACL_MASK,
  ACL_OTHER,
  ACL_USER,
  ACL_USER_OBJ,
  aclToUser,
} from "../../../src/fs/ext/acl.ts";
import type { DataMode } from "../../../src/fs/ext/data-mode.ts";
import { mountExt } from "../../../src/fs/ext/ext-fs.ts";
import { Random } from "../../../src/lib/random.ts";
import { KIB, MIB, SECTOR_BYTES } from "../../../src/lib/units.ts";
import { MemoryStore } from "../../../src/store/memory-store.ts";
import type { Store } from "../../../src/store/store.ts";
import { runTool } from "../../support/tools.ts";
import { CrashClock } from "./crash-clock.ts";
import { type FoundTree, POISON, readFound } from "./crash-oracle.ts";

const RECOVERY_ARENA_BYTES = MIB / 2;

/** Kinds of file systems. */
export type ConfigName =
  | "ext4-1k"
  | "ext4-4k"
  | "ext3-1k"
  | "ext3-4k"
  | "ext2-1k"
  | "ext2-4k"
  /** Extents and checksums, and no journal. */
  | "ext4-bare"
  /** Commits that wait for no data. */
  | "ext4-writeback"
  | "ext3-writeback"
  /** Data that goes through the journal. */
  | "ext4-journal"
  | "ext4-4k-journal"
  | "ext3-journal"
  | "ext3-4k-journal"
  | "ext4-inline"
  | "ext4-orphan-file"
  | "ext4-fast-commit"
  /** As it was before there were checksums. */
  | "ext4-plain";

interface Config {
  readonly kib: number;
  readonly size: string;
  /** Options of mke2fs. */
  readonly args: readonly string[];
  readonly data?: DataMode;
}

const CONFIGS: Readonly<Record<ConfigName, Config>> = {
  "ext4-1k": { kib: 1, size: "4M", args: ["-t", "ext4"] },
  "ext4-4k": { kib: 4, size: "10M", args: ["-t", "ext4", "-J", "size=4"] },
  "ext3-1k": { kib: 1, size: "4M", args: ["-t", "ext3"] },
  "ext3-4k": { kib: 4, size: "10M", args: ["-t", "ext3", "-J", "size=4"] },
  "ext2-1k": { kib: 1, size: "2M", args: ["-t", "ext2"] },
  "ext2-4k": { kib: 4, size: "2M", args: ["-t", "ext2"] },
  "ext4-bare": { kib: 1, size: "2M", args: ["-t", "ext4", "-O", "^has_journal"] },
  "ext4-writeback": { kib: 1, size: "4M", args: ["-t", "ext4"], data: "writeback" },
  "ext3-writeback": { kib: 1, size: "4M", args: ["-t", "ext3"], data: "writeback" },
  "ext4-journal": { kib: 1, size: "4M", args: ["-t", "ext4"], data: "journal" },
  "ext4-4k-journal": { kib: 4, size: "10M", args: ["-t", "ext4", "-J", "size=4"], data: "journal" },
  "ext3-journal": { kib: 1, size: "4M", args: ["-t", "ext3"], data: "journal" },
  "ext3-4k-journal": { kib: 4, size: "10M", args: ["-t", "ext3", "-J", "size=4"], data: "journal" },
  "ext4-inline": { kib: 1, size: "4M", args: ["-t", "ext4", "-O", "inline_data"] },
  "ext4-orphan-file": { kib: 1, size: "4M", args: ["-t", "ext4", "-O", "orphan_file"] },
  "ext4-fast-commit": { kib: 1, size: "6M", args: ["-t", "ext4", "-O", "fast_commit"] },
  "ext4-plain": { kib: 1, size: "4M", args: ["-t", "ext4", "-O", "^metadata_csum,^64bit"] },
};

/** A file system to start from. */
export interface CrashBase {
  readonly name: ConfigName;
  readonly bytes: Uint8Array;
  readonly blockBytes: number;
  /** Files have extents, and no block maps. */
  readonly hasExtents: boolean;
  /** How data and journal are to go together; undefined for the default. */
  readonly data: DataMode | undefined;
  /** Sectors of the journal, whose content says nothing once it is empty. */
  readonly journalSectors: ReadonlySet<number>;
  /** What is there. */
  readonly tree: FoundTree;
}

/** Bytes of files: none is zero or poison, and those of two seeds differ nearly everywhere. */
export function fileBytes(seed: number, count: number): Uint8Array {
  return new Random(seed).bytes(count).map((byte) => 1 + (byte % 200));
}

/** Opens what is in `store`, with a small cache and nothing from outside. */
export function openCrashed(
  store: Store,
  clock: CrashClock,
  writable: boolean,
  data?: CrashBase["data"],
): Promise<Volume> {
  const random = new Random(1);
  return openVolume(store, { writable, clock, random, cache: 4 * MIB, atime: "noatime", data });
}

/**
 * Mounts what is in `store` for writing, which recovers it, and gives it back. The cache is smaller
 * than users may have, as this is done many thousand times.
 */
export async function recoverCrashed(store: Store, clock: CrashClock): Promise<void> {
  const device = new StoreBlockDevice(store, { clock });
  const cache = new PageCache({ arenaBytes: RECOVERY_ARENA_BYTES, clock });
  const random = new Random(1);
  const mounted = await mountExt(device, cache, { clock, random, writable: true });
  await mounted.close();
  await device.close();
}

/** `ACL_UNDEFINED_ID`: of an entry that says by itself whom it is about. */
const NOBODY = 0xffff_ffff;

/** An access control list by which the owner, user 1000 and the group may do `perm` of rwx. */
export function aclBytes(perm: number): Uint8Array {
  return aclToUser([
    { tag: ACL_USER_OBJ, perm: 6, id: NOBODY },
    { tag: ACL_USER, perm, id: 1000 },
    { tag: ACL_GROUP_OBJ, perm, id: NOBODY },
    { tag: ACL_MASK, perm, id: NOBODY },
    { tag: ACL_OTHER, perm: 0, id: NOBODY },
  ]);
}

async function fill(volume: Volume): Promise<void> {
  const { fs } = volume;
  for (const dir of ["/a", "/b", "/b/d", "/old"]) await fs.mkdir(dir);
  // Stale transactions in the log, and freed blocks that are used again.
  for (let n = 0; n < 10; n++) await fs.writeFile(`/old/${n}`, fileBytes(1000 + n, 5000));
  await volume.sync();
  await fs.writeFile("/a/x", fileBytes(1, 10_000));
  await fs.writeFile("/b/x", fileBytes(2, 3000));
  await fs.setXattr("/b/x", "user.k", fileBytes(3, 40));
  await fs.setXattr("/b", "system.posix_acl_default", aclBytes(5));
  for (let n = 0; n < 10; n++) await fs.unlink(`/old/${n}`);
  await fs.rmdir("/old");
}

async function poison(volume: Volume, bytes: Uint8Array): Promise<void> {
  let at = 0;
  for await (const { offsetBytes, lengthBytes } of volume.usedRanges()) {
    bytes.fill(POISON, at, offsetBytes);
    at = offsetBytes + lengthBytes;
  }
  bytes.fill(POISON, at);
}

function journalSectorsOf(path: string, blockBytes: number): Set<number> {
  const text = runTool("debugfs", ["-R", "blocks <8>", path]);
  const perBlock = blockBytes / SECTOR_BYTES;
  const sectors = new Set<number>();
  for (const block of text.split(/\s+/).filter((word) => word !== "" && word !== "0")) {
    for (let at = 0; at < perBlock; at++) sectors.add(Number(block) * perBlock + at);
  }
  return sectors;
}

/** Makes the file system `name` in the directory `scratch`. */
export async function makeBase(name: ConfigName, scratch: string): Promise<CrashBase> {
  const { args, size, kib, data } = CONFIGS[name];
  const blockBytes = kib * KIB;
  const path = join(scratch, `${name}.img`);
  const uuid = "01234567-89ab-cdef-0123-456789abcdef";
  const fixed = ["-U", uuid, "-E", `hash_seed=${uuid}`];
  const common = ["-F", "-q", "-N", "64", "-m", "0", "-b", String(blockBytes), ...fixed];
  const env = { E2FSPROGS_FAKE_TIME: "1690000000" };
  runTool("mke2fs", [...common, ...args, path, size], { env });
  const bytes = new Uint8Array(readFileSync(path));
  const clock = new CrashClock();
  const volume = await clock.run(openCrashed(new MemoryStore(bytes), clock, true));
  await clock.run(fill(volume));
  await clock.run(volume.close());
  const filled = await clock.run(openCrashed(new MemoryStore(bytes), clock, false));
  await clock.run(poison(filled, bytes));
  const tree = await clock.run(readFound(filled));
  const hasJournal = filled.fileSystem.describe()["journal"] !== null;
  await clock.run(filled.close());
  const journalSectors = hasJournal ? journalSectorsOf(path, blockBytes) : new Set<number>();
  const hasExtents = name.startsWith("ext4");
  return { name, bytes, blockBytes, hasExtents, data, journalSectors, tree };
}
