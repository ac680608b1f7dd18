/**
 * The question that a block-mapped file system answers: where on which device does this block of
 * the file lie, or is it to lie from now on?
 *
 *     file      .. b ........ b + run ..          `BlockMap.sizeBytes` = run * blockBytes
 *     device    .. blocknr .. blocknr + run ..    contiguous, or a hole: `isMapped` false
 *
 *     create    who asks                    a missing block is
 *     false     reads                       a hole
 *     true      a write into the cache      allocated (`isNew`), or promised (`isDelay`)
 *     true      the write-out               allocated: then `onWritten` may be set
 *
 * mpage and the buffers ask it through `askBlock`, which is the border between code that may
 * throw and code that returns errnos (rule JS-8): whatever a `GetBlock` does, its caller sees 0
 * and a sane mapping, or a negative errno and none.
 *
 * After `get_block_t` of Linux, whose answer is a `struct buffer_head` with most fields unused.
 */
import type { BlockDevice } from "../block/block-device.ts";
import type { Folio } from "../cache/folio.ts";
import type { Inode } from "../cache/inode.ts";
import { EIO, type Errno, errnoOf } from "../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../lib/maybe.ts";

/** The answer to a `GetBlock`, filled in by it; reused from call to call. */
export interface BlockMap {
  /** False: a hole, and nothing else here counts. */
  isMapped: boolean;
  /** First block on `bdev`, in blocks of the inode's `blockBytes`. */
  blocknr: number;
  /**
   * In: bytes wanted. Out, if mapped: bytes that are contiguous from `blocknr` on, at most as
   * many.
   */
  sizeBytes: number;
  /**
   * Mapping the block behind this run costs a read of a block that probably lies near
   * (`BH_Boundary`).
   */
  isBoundary: boolean;
  /** Freshly allocated: what the device holds there is not the file's. Never for a read. */
  isNew: boolean;
  /** Not mapped, but there is room for it on the device, which its write-out will take. */
  isDelay: boolean;
  /** The first block's data was put into `folio` already; no read is needed. */
  isUptodate: boolean;
  bdev: BlockDevice | null;
  /**
   * In: the locked folio that is being filled or written, for file systems that have the data at
   * hand, or map all of the folio at once.
   */
  folio?: Folio | null;
  /**
   * Called once when the folio that is being written has been, or was given up: what the file
   * system keeps from being committed until its data is on the device.
   */
  onWritten?: (() => void) | null;
}

/**
 * Maps `fileBlock` of `inode`, as far as it is contiguous up to `map.sizeBytes` bytes
 * (`get_block_t`). `map` arrives cleared. A hole, with `create` false, is 0 and `isMapped` false;
 * with `create` true a block is allocated instead. Returns 0 or a negative errno; may throw or
 * reject as well.
 */
export type GetBlock = (
  inode: Inode,
  fileBlock: number,
  map: BlockMap,
  create: boolean,
) => MaybeAsync<Errno>;

/** An empty answer. */
export function createBlockMap(): BlockMap {
  return {
    isMapped: false,
    blocknr: 0,
    sizeBytes: 0,
    isBoundary: false,
    isNew: false,
    isDelay: false,
    isUptodate: false,
    bdev: null,
    folio: null,
    onWritten: null,
  };
}

/** Makes `map` the answer "hole" (`clear_buffer_mapped` and the rest of `b_state`). */
export function clearBlockMap(map: BlockMap): void {
  map.isMapped = false;
  map.isBoundary = false;
  map.isNew = false;
  map.isDelay = false;
  map.isUptodate = false;
  map.bdev = null;
  map.onWritten = null;
}

/** Which block of which inode is asked for, and for how much. */
export interface BlockQuestion {
  readonly inode: Inode;
  readonly getBlock: GetBlock;
  /** Missing blocks are to be allocated; false if left out. */
  readonly create?: boolean;
}

/**
 * What the cache of the device itself holds of blocks that now belong to a file
 * (`clean_bdev_aliases`, `write_boundary_block`).
 */
export interface DeviceBuffers {
  /**
   * Forgets that `count` blocks from `first` on are dirty, and waits until none of them is being
   * written: their old content must not land on the file's.
   */
  cleanAliases(first: number, count: number): MaybeAsync<void>;
  /** Starts to write block `blocknr` if it is cached and dirty, and nobody else does. */
  writeIfDirty(blocknr: number): void;
}

/**
 * Asks for `wantedBytes` from `fileBlock` on, and looks the answer over.
 *
 * Returns 0 with `map` filled, or a negative errno with `map` cleared: what `getBlock` returned,
 * the errno of what it threw or rejected with, `-EIO` for an answer that cannot be (no device, a
 * size that is no whole block, more than was wanted). A promise only if `getBlock` made one; it
 * never rejects.
 */
export function askBlock(
  question: BlockQuestion,
  fileBlock: number,
  wantedBytes: number,
  map: BlockMap,
): MaybeAsync<Errno> {
  clearBlockMap(map);
  map.sizeBytes = wantedBytes;
  const { inode, getBlock } = question;
  let answer: MaybeAsync<Errno>;
  try {
    answer = getBlock(inode, fileBlock, map, question.create === true);
  } catch (thrown) {
    return refuse(map, errnoOf(thrown));
  }
  if (!isPromise(answer)) return checked(answer, inode.blockBytes, wantedBytes, map);
  return answer.then(
    (errno) => checked(errno, inode.blockBytes, wantedBytes, map),
    (thrown: unknown) => refuse(map, errnoOf(thrown)),
  );
}

function checked(errno: Errno, blockBytes: number, wantedBytes: number, map: BlockMap): Errno {
  if (errno !== 0) return refuse(map, errno < 0 ? errno : -EIO);
  if (!map.isMapped) return 0;
  const isSane =
    map.bdev !== null &&
    Number.isSafeInteger(map.blocknr) &&
    map.blocknr >= 0 &&
    map.sizeBytes > 0 &&
    map.sizeBytes <= wantedBytes &&
    map.sizeBytes % blockBytes === 0;
  return isSane ? 0 : refuse(map, -EIO);
}

function refuse(map: BlockMap, errno: Errno): Errno {
  clearBlockMap(map);
  return errno;
}
