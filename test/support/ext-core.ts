/**
 * A core of ext2/3/4 over bytes in memory, for tests of single decoders: the whole stack below is
 * real, the image is whatever the test puts into its blocks.
 */
import { type BlockDevice, StoreBlockDevice } from "../../src/block/block-device.ts";
import { PageCache } from "../../src/cache/page-cache.ts";
import { ExtCore } from "../../src/fs/ext/core.ts";
import { ExtInode } from "../../src/fs/ext/inode.ts";
import { EXTENTS_FL, INODE, S_IFREG } from "../../src/fs/ext/layout.ts";
import { Superblock } from "../../src/fs/ext/superblock.ts";
import { putLe16, putLe32 } from "../../src/lib/bytes.ts";
import { realClock } from "../../src/lib/clock.ts";
import { MIB } from "../../src/lib/units.ts";
import { CountingStore } from "../../src/store/counting-store.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { bytesOfDump, SUPERBLOCK_B } from "./ext-vectors.ts";

/** A core, and what lies under it. */
export interface TestCore {
  readonly core: ExtCore;
  readonly cache: PageCache;
  readonly bytes: Uint8Array;
  readonly store: CountingStore;
  readonly warnings: string[];
  /** The bytes of a block, to be filled before it is read. */
  block(blocknr: number): Uint8Array;
}

/**
 * The superblock of image B with some 32-bit fields changed, given as [offset, value]. Not
 * checked.
 */
export function superblockWith(...fields: readonly (readonly [number, number])[]): Superblock {
  const raw = bytesOfDump(SUPERBLOCK_B, 1024);
  for (const [at, value] of fields) putLe32(raw, at, value);
  return new Superblock(raw);
}

/**
 * A core with superblock `sb` over zeros; `wrap` may put a device of the test's over the real
 * one.
 */
export function makeTestCore(
  sb: Superblock,
  wrap: (bdev: BlockDevice) => BlockDevice = (bdev) => bdev,
): TestCore {
  const bytes = new Uint8Array(sb.blockCount * sb.blockBytes);
  const store = new CountingStore(new MemoryStore(bytes));
  const bdev = wrap(new StoreBlockDevice(store, { clock: realClock }));
  const cache = new PageCache({ arenaBytes: 4 * MIB, clock: realClock });
  const warnings: string[] = [];
  const warn = (text: string): void => void warnings.push(text);
  const core = new ExtCore(sb, sb.blockBytes === 1024 ? 1 : 0, bdev, cache, warn, false);
  const block = (blocknr: number): Uint8Array =>
    bytes.subarray(blocknr * sb.blockBytes, (blocknr + 1) * sb.blockBytes);
  return { core, cache, bytes, store, warnings, block };
}

/** A regular file with this `i_block`, which no inode table holds. */
export function fileWith(sb: Superblock, iBlock: Uint8Array, hasExtents: boolean): ExtInode {
  const raw = new Uint8Array(sb.inodeBytes);
  putLe16(raw, INODE.i_mode, S_IFREG | 0o644);
  putLe16(raw, INODE.i_links_count, 1);
  putLe32(raw, INODE.i_flags, hasExtents ? EXTENTS_FL : 0);
  raw.set(iBlock, INODE.i_block);
  return new ExtInode(12, raw, sb);
}
