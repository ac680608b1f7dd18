/**
 * Reading a directory that may change meanwhile: each name that stays is met once.
 *
 *     leaves by their place    1 2 3 4      a split moves half of 1 into a new leaf 5: met again
 *     leaves by their hashes   1 5 2 3 4    where 2 begins, the next step begins, split or not
 *
 *  1. A cookie is a block as in `dirRead`, or `BY_HASH` and the hash at which the next leaf begins.
 *  2. Leaves that begin at one hash are read in one step, so hashes rise from step to step.
 *  3. The names of a leaf have its hashes: no index leads to one leaf often.
 *
 * A damaged index is met at the first step, which then reads block by block, or is an error.
 *
 * After `ext4_dx_readdir` of fs/ext4/dir.c. Left out: the order within a leaf.
 */
import type { DirectoryBatch, DirectoryEntry } from "../vfs.ts";
import type { ExtContext } from "./context.ts";
import { dirRead } from "./dir.ts";
import { type DirShape, dirShapeOf } from "./dir-block.ts";
import { DX_HASH_TEA } from "./dir-hash.ts";
import { damagedDir, dirBlockCount } from "./dir-search.ts";
import { BadIndex, blockAt, DxSearch } from "./htree.ts";
import type { ExtInode } from "./inode.ts";
import { storedNameHash } from "./wanted-name.ts";

/** Cookies from here on are hashes. */
const BY_HASH = 2 ** 33;
/** Leaves that begin at one hash. */
const LEAVES_MAX = 64;

/** Leaves to be read in one step. */
interface Leaves {
  readonly fileBlocks: readonly number[];
  /** Hash at which they begin. */
  readonly from: number;
  /** Hash at which those behind them begin; undefined at the end. */
  readonly next: number | undefined;
  readonly version: number;
}

/**
 * As `dirRead`, for a directory that may change between two steps.
 *
 * @throws {FsError} as `dirRead`; `EUCLEAN` for an index that is damaged behind its first leaf
 * @throws {BlockMiss} for a block that is not cached: let it pass
 */
export function dirReadStable(ctx: ExtContext, dir: ExtInode, cookie: number): DirectoryBatch {
  if (cookie !== 0 && cookie < BY_HASH) return dirRead(ctx, dir, cookie);
  const shape = dirShapeOf(ctx, dir);
  if (!shape.isIndexed || shape.isEncrypted || dir.isInline) {
    return cookie === 0 ? dirRead(ctx, dir, 0) : { entries: [], nextCookie: -1 };
  }
  const from = Math.max(cookie - BY_HASH, 0);
  try {
    const leaves = leavesFrom(ctx, dir, shape, from);
    if (leaves === undefined) return { entries: [], nextCookie: -1 };
    const entries = cookie === 0 ? [...dirRead(ctx, dir, 0).entries] : [];
    for (const fileBlock of leaves.fileBlocks) {
      const { entries: names } = dirRead(ctx, dir, fileBlock);
      checkHashes(ctx, dir, leaves, names[0]);
      entries.push(...names);
    }
    return { entries, nextCookie: leaves.next === undefined ? -1 : BY_HASH + leaves.next };
  } catch (thrown) {
    if (!(thrown instanceof BadIndex)) throw thrown;
    if (cookie === 0) return dirRead(ctx, dir, 0);
    throw damagedDir(dir, `its index is damaged: ${thrown.what}`);
  }
}

/** The leaves that begin at `from`, or first behind it. Throws `BadIndex`. */
function leavesFrom(
  ctx: ExtContext,
  dir: ExtInode,
  shape: DirShape,
  from: number,
): Leaves | undefined {
  const search = new DxSearch(ctx, dir, shape, dirBlockCount(ctx, dir));
  const root = search.root();
  const { version } = root;
  if (version > DX_HASH_TEA) throw new BadIndex(`hash_version is ${version}`);
  const frames = search.frames(root, Math.max(from - 1, 0));
  let begin = 0;
  if (from > 0) {
    const next = search.nextHash(frames);
    if (next === undefined) return undefined;
    search.advance(frames);
    begin = next;
  }
  const fileBlocks = [blockAt(frames.at(-1)!)];
  let next = search.nextHash(frames);
  for (; next === begin; next = search.nextHash(frames)) {
    if (fileBlocks.length === LEAVES_MAX) throw new BadIndex("too many leaves begin at one hash");
    search.advance(frames);
    fileBlocks.push(blockAt(frames.at(-1)!));
  }
  const isRising = begin >= from && (next === undefined || next > begin);
  if (!isRising || fileBlocks.includes(0)) throw new BadIndex("its hashes do not rise");
  return { fileBlocks, from: begin, next, version };
}

/** Throws `BadIndex` unless the first name of a leaf has a hash that belongs there. */
function checkHashes(
  ctx: ExtContext,
  dir: ExtInode,
  { from, next, version }: Leaves,
  first: DirectoryEntry | undefined,
): void {
  if (first === undefined) return;
  const { major } = storedNameHash(ctx, dir, version, first.name);
  const isBehind = next !== undefined && major >= next; // The bit of `next` lets its hash be here.
  if (major >= (from & ~1) >>> 0 && !isBehind) return;
  throw new BadIndex(`a name of the leaf at ${from} has the hash ${major}`);
}
